package proof

import "io"

// Tee gives what is to be read in the place of r: t reads it, too, on a goroutine of its own, as it goes
// by. end must be called once nothing more is read, with the error of that if there was one, and
// gives t's own.
func (t *Tar) Tee(r io.Reader) (_ io.Reader, end func(err error) error) {
	in, out := io.Pipe()
	done := make(chan error, 1)
	go func() {
		err := t.Read(in)
		io.Copy(io.Discard, in) // the other reader's error is of more use than that this one has stopped
		done <- err
	}()
	return io.TeeReader(r, out), func(err error) error {
		out.CloseWithError(err) // nil is io.EOF
		return <-done
	}
}
