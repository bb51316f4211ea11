// Command browser drives a headless Chromium for tests: it takes commands from stdin, a line of
// JSON each, and answers each with a line of JSON on stdout.
//
//	{"do":"size","width":390,"height":844,"dark":true}
//	{"do":"open","url":"http://127.0.0.1:8080/"}      returns when it is loaded
//	{"do":"fill","selector":"#secret","text":"..."}
//	{"do":"click","selector":"button"}                returns when what it leads to is loaded
//	{"do":"keys","text":"\t"}
//	{"do":"wait","expression":"document.title === 'x'"}  until it is true, a minute at most
//	{"do":"value","expression":"document.title"}
//	{"do":"shot","file":"page.png"}                   the whole page
//	{"do":"problems"}                                 what went wrong since they were last asked for
//
// An answer is {"value": ...}, or {"error": "..."}. Problems are errors and warnings of the
// console, exceptions, what the security policy has refused, answers of 400 and above, and
// dialogs. It ends with stdin.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// patience bounds each command.
const patience = time.Minute

type command struct {
	Do         string `json:"do"`
	Width      int64  `json:"width"`
	Height     int64  `json:"height"`
	Dark       bool   `json:"dark"`
	URL        string `json:"url"`
	Selector   string `json:"selector"`
	Text       string `json:"text"`
	Expression string `json:"expression"`
	File       string `json:"file"`
}

type answer struct {
	Value any    `json:"value,omitempty"`
	Error string `json:"error,omitempty"`
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "browser:", err)
		os.Exit(1)
	}
}

func run() error {
	// The sandbox of root's Chromium wants what a container has not.
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.NoSandbox, chromedp.DisableGPU)
	ctx, cancel := chromedp.NewExecAllocator(context.Background(), options...)
	defer cancel()
	ctx, cancel = chromedp.NewContext(ctx)
	defer cancel()
	var found problems
	chromedp.ListenTarget(ctx, found.hear(ctx))
	if err := chromedp.Run(ctx, log.Enable(), network.Enable(), runtime.Enable(), page.Enable()); err != nil {
		return err
	}
	in, out := bufio.NewScanner(os.Stdin), json.NewEncoder(os.Stdout)
	for in.Scan() {
		var c command
		if err := json.Unmarshal(in.Bytes(), &c); err != nil {
			return err
		}
		a := answer{}
		var err error
		if a.Value, err = c.run(ctx, &found); err != nil {
			a.Error = fmt.Sprintf("%s %s%s%s: %v", c.Do, c.URL, c.Selector, c.Expression, err)
		}
		if err := out.Encode(a); err != nil {
			return err
		}
	}
	return in.Err()
}

func (c command) run(ctx context.Context, found *problems) (any, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	switch c.Do {
	case "size":
		scheme := "light"
		if c.Dark {
			scheme = "dark"
		}
		return nil, chromedp.Run(ctx, chromedp.EmulateViewport(c.Width, c.Height),
			emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}))
	case "open":
		return nil, chromedp.Run(ctx, chromedp.Navigate(c.URL))
	case "fill":
		return nil, chromedp.Run(ctx, chromedp.SetValue(c.Selector, c.Text, chromedp.ByQuery))
	case "click":
		_, err := chromedp.RunResponse(ctx, chromedp.Click(c.Selector, chromedp.ByQuery))
		return nil, err
	case "keys":
		return nil, chromedp.Run(ctx, chromedp.KeyEvent(c.Text))
	case "value":
		var v any
		err := chromedp.Run(ctx, chromedp.Evaluate(c.Expression, &v))
		return v, err
	case "wait":
		return nil, wait(ctx, c.Expression)
	case "shot":
		var png []byte
		if err := chromedp.Run(ctx, chromedp.FullScreenshot(&png, 100)); err != nil {
			return nil, err
		}
		return nil, os.WriteFile(c.File, png, 0o644)
	case "problems":
		return found.take(), nil
	}
	return nil, fmt.Errorf("no such command")
}

// wait asks until an expression is true.
func wait(ctx context.Context, expression string) error {
	for {
		var good bool
		if err := chromedp.Run(ctx, chromedp.Evaluate("Boolean("+expression+")", &good)); err != nil || good {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// problems are what went wrong, for people.
type problems struct {
	mu   sync.Mutex
	list []string
}

func (p *problems) add(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.list = append(p.list, fmt.Sprintf(format, args...))
}

func (p *problems) take() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := append([]string{}, p.list...)
	p.list = nil
	return list
}

func (p *problems) hear(ctx context.Context) func(any) {
	return func(e any) {
		switch e := e.(type) {
		case *runtime.EventConsoleAPICalled:
			if e.Type == runtime.APITypeError || e.Type == runtime.APITypeWarning || e.Type == runtime.APITypeAssert {
				p.add("console: %s: %s", e.Type, said(e.Args))
			}
		case *runtime.EventExceptionThrown:
			p.add("exception: %v", e.ExceptionDetails)
		case *log.EventEntryAdded:
			if e.Entry.Level == log.LevelError || e.Entry.Level == log.LevelWarning {
				p.add("%s: %s: %s", e.Entry.Source, e.Entry.Level, e.Entry.Text)
			}
		case *network.EventResponseReceived:
			if e.Response.Status >= 400 {
				p.add("%d: %s", e.Response.Status, e.Response.URL)
			}
		case *page.EventJavascriptDialogOpening:
			p.add("dialog: %s", e.Message)
			go chromedp.Run(ctx, page.HandleJavaScriptDialog(false)) // or nothing goes on
		}
	}
}

func said(args []*runtime.RemoteObject) (text string) {
	for _, a := range args {
		text += string(a.Value) + a.Description + " "
	}
	return text
}
