package proxy

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// Message is one that a client publishes, or that the server delivers.
type Message struct {
	Up      bool // from the client to the server
	Subject string
	Reply   string
	Header  string
	Data    []byte
}

// maxLine bounds a protocol line; CONNECT and INFO are the long ones.
const maxLine = 64 << 10

// frame is one element of the NATS protocol, as it came; Message is nil for what
// carries none.
type frame struct {
	raw     []byte
	message *Message
}

// readFrame reads one element of the protocol, in either direction.
func readFrame(r *bufio.Reader) (frame, error) {
	line, err := r.ReadSlice('\n')
	if err != nil {
		return frame{}, err
	}
	f := frame{raw: bytes.Clone(line)}
	words := strings.Fields(string(line))
	if len(words) == 0 {
		return f, nil
	}
	verb := strings.ToUpper(words[0])
	sizes, named := map[string]int{"PUB": 1, "HPUB": 2, "MSG": 1, "HMSG": 2}[verb]
	if !named {
		return f, nil
	}
	m := &Message{Up: strings.HasSuffix(verb, "PUB"), Subject: words[1]}
	subjects := 1
	if !m.Up {
		subjects = 2 // and the number of the subscription
	}
	if len(words) < 1+subjects+sizes {
		return f, fmt.Errorf("protocol line %q is too short", line)
	}
	if len(words) > 1+subjects+sizes {
		m.Reply = words[1+subjects]
	}
	total, err := strconv.Atoi(words[len(words)-1])
	if err != nil {
		return f, fmt.Errorf("protocol line %q: %w", line, err)
	}
	header := 0
	if sizes == 2 {
		if header, err = strconv.Atoi(words[len(words)-2]); err != nil || header > total {
			return f, fmt.Errorf("protocol line %q: header of %d in %d bytes", line, header, total)
		}
	}
	body := make([]byte, total+2)
	if _, err := io.ReadFull(r, body); err != nil {
		return f, err
	}
	m.Header, m.Data = string(body[:header]), body[header:total]
	f.raw, f.message = append(f.raw, body...), m
	return f, nil
}
