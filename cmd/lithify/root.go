package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"regexp"
	"strconv"
	"strings"

	"github.com/lithify/lithify/jobs"
	"github.com/lithify/lithify/telemetry"
	"github.com/spf13/cobra"
)

// app is what every command shares.
type app struct {
	out, err io.Writer
	log      *slog.Logger
	verbose  bool
	output   string
	shutdown func(context.Context) error
}

func execute(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	a := &app{out: stdout, err: stderr, shutdown: func(context.Context) error { return nil }}
	root := a.root()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if errors.As(err, new(usageError)) && wantsJSON(args) { // it may stand behind what is wrong
		a.output = "json"
	}
	telemetry.Flush(ctx, a.shutdown)
	code := exitCode(ctx, err)
	if err != nil {
		a.printError(err, code)
	}
	return code
}

// wantsJSON looks for --output json among args, in each of its forms.
func wantsJSON(args []string) bool {
	for i, arg := range args {
		if arg == "--" {
			return false
		}
		m := outputFlag.FindStringSubmatch(arg)
		if m != nil && (m[1] == "json" || m[1] == "" && i+1 < len(args) && args[i+1] == "json") {
			return true
		}
	}
	return false
}

// outputFlag is --output, or -o perhaps behind other flags of one letter, and its
// value if it is in the same word.
var outputFlag = regexp.MustCompile(`^(?:--output|-[a-z]*o)(?:=?(json))?$`)

// harmless is a text whose control characters are written out: errors name what strangers have
// called their files.
func harmless(text string) string {
	var b strings.Builder
	for _, r := range text {
		if r == '\n' || r == '\t' || strconv.IsPrint(r) {
			b.WriteRune(r)
			continue
		}
		quoted := strconv.QuoteRune(r)
		b.WriteString(quoted[1 : len(quoted)-1])
	}
	return b.String()
}

// printError writes err on stderr as one line, the last: for people, or for
// programs where --output json was read before the error.
func (a *app) printError(err error, code int) {
	if a.output != "json" {
		fmt.Fprintln(a.err, "lithify:", harmless(err.Error()))
		return
	}
	line := struct {
		Error string         `json:"error"`
		Code  int            `json:"code"` // the exit code
		Kind  jobs.ErrorKind `json:"kind,omitempty"`
	}{Error: err.Error(), Code: code}
	if kind := jobs.KindOf(err); kind != jobs.KindUnknown {
		line.Kind = kind
	}
	json.NewEncoder(a.err).Encode(line) // of such a struct it fails only where stderr does
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "lithify",
		Short: "Convert container images to EROFS, here or in a pool of workers",
		Long: `lithify converts container images to EROFS images that containerd mounts
without unpacking, and publishes them beside the originals.

` + exitCodes,
		SilenceErrors:     true,
		SilenceUsage:      true,
		Version:           telemetry.Version(),
		PersistentPreRunE: a.setup,
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.PersistentFlags().BoolVarP(&a.verbose, "verbose", "v", false, "log what is done, step by step, on stderr")
	root.PersistentFlags().StringVarP(&a.output, "output", "o", "text", "how to print results on stdout and the error on stderr: text or json")
	group(root)
	root.AddCommand(a.convertCommand(), a.extractTarCommand(), a.verifyCommand(), a.migrateCommand(), a.cacheCommand(), a.inspectCommand(), a.lintCommand(), a.lsCommand(), a.catCommand(), a.diffCommand(), a.commitCommand(), a.buildCommand(), a.checkpointCommand(), a.restoreCommand())
	root.AddCommand(a.submitCommand(), a.serveCommand(), a.consoleCommand())
	root.AddCommand(a.jobsCommand(), a.rolloutCommand(), a.cronCommand(), a.poolCommand(), a.workersCommand(), a.schedulersCommand(), a.queueCommand(), a.authCommand())
	root.AddCommand(a.planCIMCommand(), a.cimCommand(), a.cimDifferCommand(), a.doctorCommand(), a.configCommand(), a.benchCommand())
	return root
}

func (a *app) setup(cmd *cobra.Command, _ []string) (err error) {
	if a.output != "text" && a.output != "json" {
		return usageError{fmt.Errorf("--output %q is neither text nor json", a.output)}
	}
	level := slog.LevelWarn
	if cmd.Name() == "serve" || cmd.Name() == "console" || cmd.Name() == "blockcim-differ" {
		level = slog.LevelInfo
	}
	if a.verbose {
		level = slog.LevelDebug
	}
	a.shutdown, a.log, err = telemetry.Setup(cmd.Context(), "lithify", telemetry.Version(), telemetry.Options{Level: level, Writer: a.err})
	return err
}

// group makes a command that only holds others refuse what it does not hold.
func group(cmd *cobra.Command) {
	cmd.Args = cobra.ArbitraryArgs
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) > 0 {
			return usageError{fmt.Errorf("unknown command %q, see %q", args[0], cmd.CommandPath()+" --help")}
		}
		return cmd.Help()
	}
}
