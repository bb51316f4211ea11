package queue

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/containerd/errdefs"
)

// Context says where a "lithify serve" of this machine listens and which key
// opens it. It is a file of mode 0600 that serve writes and removes.
type Context struct {
	URL      string `json:"url"`
	NkeyFile string `json:"nkey_file"`           // the seed itself stays in the store directory
	KeysFile string `json:"keys_file,omitempty"` // see Keys
	PID      int    `json:"pid"`
	Version  string `json:"version"`
}

// ContextPath is $LITHIFY_CONTEXT, else lithify/context.json in the user's
// configuration directory.
func ContextPath() (string, error) {
	if p := os.Getenv("LITHIFY_CONTEXT"); p != "" {
		return p, nil
	}
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", fmt.Errorf("find the context file: %w", err)
	}
	return filepath.Join(dir, "lithify", "context.json"), nil
}

// ReadContext reads a context file. Without one the error is errdefs.ErrUnavailable
// and says what to start.
func ReadContext(path string) (Context, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Context{}, fmt.Errorf("no pool on this machine (%s): run \"lithify serve\" or give --nats URL: %w", path, errdefs.ErrUnavailable)
	}
	if err != nil {
		return Context{}, err
	}
	return decodeContext(path, b)
}

func decodeContext(path string, b []byte) (Context, error) {
	var c Context
	if err := json.Unmarshal(b, &c); err != nil {
		return Context{}, fmt.Errorf("context file %s: %w", path, err)
	}
	if c.URL == "" {
		return Context{}, fmt.Errorf("context file %s: no url", path)
	}
	return c, nil
}

// WriteContext replaces the context file in one step, readable by its owner only.
// It is synced first, so that what a crash of the machine leaves still tells that
// the pool is gone.
func WriteContext(path string, c Context) error {
	b, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), ".context-*") // mode 0600
	if err != nil {
		return err
	}
	_, err = tmp.Write(append(b, '\n'))
	if err = errors.Join(err, tmp.Sync(), tmp.Close()); err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write context file: %w", err), os.Remove(tmp.Name()))
	}
	return nil
}

// Alive reports whether the pool's process is there and its server takes connections.
func (c Context) Alive() bool {
	u, err := url.Parse(c.URL)
	if err != nil || !alive(c.PID) {
		return false
	}
	conn, err := net.DialTimeout("tcp", u.Host, time.Second)
	if err != nil {
		return false
	}
	conn.Close()
	return true
}

// stale explains a context file whose server does not answer.
func (c Context) stale(path string, cause error) error {
	if !alive(c.PID) {
		return fmt.Errorf("the pool of this machine is gone: %s was left by process %d, which has ended; run \"lithify serve\": %w", path, c.PID, cause)
	}
	return fmt.Errorf("the pool of process %d (%s) does not answer: %w", c.PID, path, cause)
}
