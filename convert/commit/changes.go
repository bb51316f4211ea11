package commit

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/frontend/dockerfile/shell"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// apply does Dockerfile instructions to a config.
func apply(c *ocispec.ImageConfig, lines []string) error {
	commanded := false
	for _, line := range lines {
		cmd, err := applyLine(c, line)
		if err != nil {
			return fmt.Errorf("change %q: %w: %w", line, err, errdefs.ErrInvalidArgument)
		}
		switch cmd.(type) {
		case *instructions.CmdCommand:
			commanded = true
		case *instructions.EntrypointCommand:
			if !commanded { // what was a command for the old entry point is none for the new one
				c.Cmd = nil
			}
		}
	}
	return nil
}

func applyLine(c *ocispec.ImageConfig, line string) (instructions.Command, error) {
	cmd, err := parse(line)
	if err != nil {
		return nil, err
	}
	if words, ok := cmd.(instructions.SupportsSingleWordExpansion); ok {
		lex := shell.NewLex('\\')
		if err := words.Expand(func(word string) (string, error) {
			word, _, err := lex.ProcessWord(word, shell.EnvsFromSlice(c.Env))
			return word, err
		}); err != nil {
			return nil, err
		}
	}
	switch cmd := cmd.(type) {
	case *instructions.CmdCommand:
		c.Cmd = commandLine(cmd.ShellDependantCmdLine)
	case *instructions.EntrypointCommand:
		c.Entrypoint = commandLine(cmd.ShellDependantCmdLine)
	case *instructions.EnvCommand:
		for _, kv := range cmd.Env {
			c.Env = setEnv(c.Env, kv.Key, kv.Value)
		}
	case *instructions.LabelCommand:
		for _, kv := range cmd.Labels {
			put(&c.Labels, kv.Key, kv.Value)
		}
	case *instructions.ExposeCommand:
		for _, p := range cmd.Ports {
			if !strings.Contains(p, "/") {
				p += "/tcp"
			}
			put(&c.ExposedPorts, p, struct{}{})
		}
	case *instructions.VolumeCommand:
		for _, v := range cmd.Volumes {
			put(&c.Volumes, v, struct{}{})
		}
	case *instructions.WorkdirCommand:
		c.WorkingDir = workdir(c.WorkingDir, cmd.Path)
	case *instructions.UserCommand:
		c.User = cmd.User
	case *instructions.StopSignalCommand:
		c.StopSignal = cmd.Signal
	default:
		return nil, fmt.Errorf("%s changes no config; want CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, STOPSIGNAL, USER, VOLUME or WORKDIR", strings.ToUpper(cmd.Name()))
	}
	return cmd, nil
}

func parse(line string) (instructions.Command, error) {
	ast, err := parser.Parse(strings.NewReader(line))
	if err != nil {
		return nil, err
	}
	if len(ast.AST.Children) != 1 {
		return nil, fmt.Errorf("want one instruction")
	}
	return instructions.ParseCommand(ast.AST.Children[0])
}

// commandLine gives the shell form its shell.
func commandLine(c instructions.ShellDependantCmdLine) []string {
	if c.PrependShell {
		return append([]string{"/bin/sh", "-c"}, c.CmdLine...)
	}
	return c.CmdLine
}

func setEnv(env []string, key, value string) []string {
	i := slices.IndexFunc(env, func(kv string) bool { return strings.HasPrefix(kv, key+"=") })
	if i < 0 {
		return append(slices.Clone(env), key+"="+value)
	}
	env = slices.Clone(env)
	env[i] = key + "=" + value
	return env
}

func workdir(old, p string) string {
	if path.IsAbs(p) {
		return path.Clean(p)
	}
	return path.Join("/", old, p)
}

func put[V any](m *map[string]V, k string, v V) {
	if *m == nil {
		*m = map[string]V{}
	}
	(*m)[k] = v
}
