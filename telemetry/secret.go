package telemetry

import (
	"fmt"
	"log/slog"
)

// Secret is a password, token or key. However it is printed, logged or encoded,
// what comes out is "redacted"; Reveal is the one way to its value.
type Secret struct{ value string }

const redacted = "redacted"

// NewSecret takes a value in.
func NewSecret(value string) Secret { return Secret{value} }

// Reveal is the value, for the one who needs it.
func (s Secret) Reveal() string { return s.value }

// Format implements fmt.Formatter, for every verb and flag.
func (Secret) Format(f fmt.State, _ rune) { fmt.Fprint(f, redacted) }

// String implements fmt.Stringer.
func (Secret) String() string { return redacted }

// LogValue implements slog.LogValuer.
func (Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText implements encoding.TextMarshaler, and so covers JSON and YAML.
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }
