// Package natsd runs a NATS server inside this process: the whole pool on one
// machine with no other service. It stores to disk, syncs every write before it
// answers, and listens on a loopback port that opens to one generated key.
//
// Only cmd/lithify and tests link it.
package natsd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/lithify/lithify/queue"
)

// Config's zero value serves from the user's cache directory.
type Config struct {
	Dir         string       // store, key and lock; default DefaultDir()
	ContextFile string       // default queue.ContextPath(); "-" for none
	InProcess   bool         // do not listen: only Client reaches the server
	Version     string       // of the program, for the context file
	MaxStore    int64        // bytes on disk; default defaultMaxStore
	Log         *slog.Logger // default: discards
}

const (
	// Jobs are small. What does not fit is a mistake, or belongs into a registry.
	maxPayload = 256 << 10
	// One machine's workers, submitters and watchers.
	maxConnections  = 1024
	defaultMaxStore = 20 << 30
	readyWait       = 30 * time.Second
)

// DefaultDir is lithify/queue in the user's cache directory.
func DefaultDir() (string, error) {
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find the store directory: %w", err)
	}
	return filepath.Join(dir, "lithify", "queue"), nil
}

// Server is a running server.
type Server struct {
	lock     *dirLock
	cfg      Config
	nkeyFile string
	full     chan struct{} // a write had no room on the disk

	refills sync.WaitGroup
	cancel  context.CancelFunc // ends refills

	mu sync.Mutex
	ns *server.Server
}

// Start locks the directory, starts the server and writes the context file. It
// returns when clients are served. Another process on the same directory is an error.
func Start(cfg Config) (_ *Server, err error) {
	if cfg, err = cfg.withDefaults(); err != nil {
		return nil, err
	}
	if err := cfg.checkContext(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("start queue server: %w", err)
	}
	lock, err := lockDir(cfg.Dir)
	if err != nil {
		return nil, err
	}
	s := &Server{lock: lock, cfg: cfg, nkeyFile: filepath.Join(cfg.Dir, "client.nk"), full: make(chan struct{}, 1)}
	ctx, cancel := context.WithCancel(context.Background()) // until Stop
	s.cancel = cancel
	if err := s.start(); err != nil {
		return nil, errors.Join(fmt.Errorf("start queue server in %s: %w", cfg.Dir, err), s.Stop())
	}
	s.refills.Go(func() { s.refill(ctx) })
	return s, nil
}

func (c Config) withDefaults() (_ Config, err error) {
	if c.Dir == "" {
		if c.Dir, err = DefaultDir(); err != nil {
			return c, err
		}
	}
	if c.ContextFile == "" {
		if c.ContextFile, err = queue.ContextPath(); err != nil {
			return c, err
		}
	}
	if c.MaxStore <= 0 {
		c.MaxStore = defaultMaxStore
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c, nil
}

// checkContext refuses to take the context file from a pool that is there: clients
// would find another pool than the one that has their jobs.
func (c Config) checkContext() error {
	if c.InProcess || c.ContextFile == "-" {
		return nil
	}
	old, err := queue.ReadContext(c.ContextFile)
	if err != nil || !old.Alive() || old.NkeyFile == filepath.Join(c.Dir, "client.nk") { // then the lock tells
		return nil
	}
	return fmt.Errorf("another pool of this user runs: process %d at %s, says %s; stop it, or give this one a context file of its own by $LITHIFY_CONTEXT: %w",
		old.PID, old.URL, c.ContextFile, errdefs.ErrFailedPrecondition)
}

func (s *Server) start() error {
	public, err := loadKey(s.nkeyFile)
	if err == nil {
		// Whoever has the one key may do anything here: what it did not sign was
		// written by somebody else, or by a version that signed nothing.
		err = queue.Keys{Scheduler: public, Workers: []queue.WorkerKey{{Key: public}}}.WriteFile(s.keysFile())
	}
	if err != nil {
		return err
	}
	opts := &server.Options{
		ServerName: "lithify", JetStream: true, StoreDir: s.cfg.Dir, SyncAlways: true, JetStreamMaxStore: s.cfg.MaxStore,
		NoSigs: true, NoLog: true, MaxPayload: maxPayload, MaxConn: maxConnections,
		DontListen: s.cfg.InProcess, Host: "127.0.0.1", Port: s.lastPort(),
		Nkeys: []*server.NkeyUser{{Nkey: public}},
	}
	ns, err := server.NewServer(opts)
	if err != nil {
		return err
	}
	s.ns = ns
	s.ns.SetLoggerV2(serverLog{s.cfg.Log, s.full}, false, false, false)
	s.ns.Start()
	if !s.ns.ReadyForConnections(readyWait) {
		return fmt.Errorf("not ready after %v", readyWait)
	}
	return s.publish()
}

// lastPort is the port of the last run if it is still free: workers and clients
// in other processes then find the server again after a restart.
func (s *Server) lastPort() int {
	b, err := os.ReadFile(s.portFile())
	port, perr := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil || perr != nil {
		return server.RANDOM_PORT
	}
	l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		return server.RANDOM_PORT
	}
	l.Close()
	return port
}

func (s *Server) keysFile() string { return filepath.Join(s.cfg.Dir, "keys.json") }

func (s *Server) portFile() string { return filepath.Join(s.cfg.Dir, "port") }

// publish tells other processes where to find the server.
func (s *Server) publish() error {
	if s.cfg.InProcess {
		return nil
	}
	port := s.ns.Addr().(*net.TCPAddr).Port
	if err := os.WriteFile(s.portFile(), []byte(strconv.Itoa(port)+"\n"), 0o600); err != nil {
		return err
	}
	if s.cfg.ContextFile == "-" {
		return nil
	}
	return queue.WriteContext(s.cfg.ContextFile, queue.Context{URL: s.url(), NkeyFile: s.nkeyFile, KeysFile: s.keysFile(), PID: os.Getpid(), Version: s.cfg.Version})
}

// URL is the address for other processes, empty if the server does not listen.
func (s *Server) URL() string {
	if s.cfg.InProcess {
		return ""
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.url()
}

func (s *Server) url() string { return "nats://" + s.ns.Addr().String() }

// Client says how to connect from inside this process, without a socket.
func (s *Server) Client() queue.Config {
	return queue.Config{URL: "nats://in-process", NkeyFile: s.nkeyFile, KeysFile: s.keysFile(), Options: []nats.Option{nats.InProcessServer(s)}}
}

// Stop ends the server after what it accepted is on disk, removes the context
// file and unlocks the directory. There is no other server its clients could
// move to, so it does not wait for them as a lame duck would: they reconnect
// when it comes back.
func (s *Server) Stop() error {
	s.cancel()
	s.refills.Wait()
	if s.ns != nil {
		s.ns.Shutdown()
		s.ns.WaitForShutdown()
	}
	return errors.Join(s.removeContext(), s.lock.unlock())
}

// removeContext removes the context file if it is still this server's.
func (s *Server) removeContext() error {
	if s.cfg.InProcess || s.cfg.ContextFile == "-" {
		return nil
	}
	if c, err := queue.ReadContext(s.cfg.ContextFile); err != nil || c.PID != os.Getpid() || c.NkeyFile != s.nkeyFile {
		return nil
	}
	return os.Remove(s.cfg.ContextFile)
}

// loadKey reads the key of an earlier run or makes one, and gives its public half.
func loadKey(path string) (string, error) {
	seed, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		seed, err = makeKey(path)
	}
	if err != nil {
		return "", err
	}
	kp, err := nkeys.FromSeed([]byte(strings.TrimSpace(string(seed))))
	if err != nil {
		return "", fmt.Errorf("key file %s: %w", path, err)
	}
	return kp.PublicKey()
}

func makeKey(path string) ([]byte, error) {
	kp, err := nkeys.CreateUser()
	if err != nil {
		return nil, err
	}
	seed, err := kp.Seed()
	if err != nil {
		return nil, err
	}
	return seed, os.WriteFile(path, append(seed, '\n'), 0o600)
}
