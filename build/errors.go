package build

import (
	"bytes"
	"context"
	"errors"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	gateway "github.com/moby/buildkit/frontend/gateway/pb"
	solver "github.com/moby/buildkit/solver/errdefs"
	"github.com/moby/buildkit/util/grpcerrors"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/lithify/lithify/convert/registry"
)

// Error says why a build failed. It is an errdefs.ErrInvalidArgument where the Dockerfile
// cannot be read or a command that it runs failed: another attempt will end the same way.
// BuildKit tells no kind of most other failures, be it a base image that does not exist or
// a network that is away.
type Error struct {
	// Excerpt is the part of the Dockerfile around the instruction that failed, in lines
	// as BuildKit prints them; empty if none is known.
	Excerpt string
	// ExitCode is that of the command that failed, 0 if none did.
	ExitCode int

	text string
	kind error
}

func (e *Error) Error() string { return e.text }

func (e *Error) Unwrap() error { return e.kind }

// killed is the exit code of a command that SIGKILL ended: by a lack of memory, more
// often than by its own will.
const killed = 128 + 9

// failure is what came of a solve that ended with err.
func failure(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	e := &Error{text: text(err), kind: kindOf(err)}
	var excerpt strings.Builder
	for _, source := range solver.Sources(err) {
		source.Print(&excerpt) // a Builder takes everything
		if e.kind == nil && !parses(source.Info.GetData()) {
			e.kind = errdefs.ErrInvalidArgument
		}
	}
	e.Excerpt = excerpt.String()
	var exit *gateway.ExitError
	if errors.As(err, &exit) && exit.ExitCode != gateway.UnknownExitStatus {
		e.ExitCode = int(exit.ExitCode)
		e.kind = errdefs.ErrInvalidArgument
		if e.ExitCode == killed {
			e.kind = errdefs.ErrUnknown
		}
	}
	return e
}

// text is what BuildKit says, in one line. It names URLs that registries have signed.
func text(err error) string {
	s := strings.TrimPrefix(registry.Redact(err.Error()), "failed to solve: ")
	return "build: " + strings.Join(strings.Fields(s), " ")
}

// kindOf is nil where the daemon does not tell a kind.
func kindOf(err error) error {
	code := grpcerrors.Code(err)
	if code == codes.Unknown || code == codes.OK {
		return nil
	}
	return errgrpc.ToNative(status.Error(code, ""))
}

func parses(dockerfile []byte) bool {
	parsed, err := parser.Parse(bytes.NewReader(dockerfile))
	if err != nil {
		return false
	}
	_, _, err = instructions.Parse(parsed.AST, nil)
	return err == nil
}
