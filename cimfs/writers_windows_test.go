package cimfs_test

import (
	"context"
	"errors"
	"strconv"
	"testing"
	"testing/synctest"

	"github.com/lithify/lithify/cimfs"
)

// TestWriters has a fifth CIM wait until one of four has been written, and a sixth until nobody
// wants it any more.
func TestWriters(t *testing.T) {
	temp := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		var dirs []string
		for i := range 4 {
			dir, err := cimfs.Begin(t.Context(), temp, strconv.Itoa(i))
			if err != nil {
				t.Fatal(err)
			}
			dirs = append(dirs, dir)
		}
		ctx, stop := context.WithCancelCause(t.Context())
		fifth, sixth := make(chan error, 1), make(chan error, 1)
		go func() {
			dir, err := cimfs.Begin(t.Context(), temp, "fifth")
			dirs = append(dirs, dir)
			fifth <- err
		}()
		go func() {
			_, err := cimfs.Begin(ctx, temp, "sixth")
			sixth <- err
		}()
		synctest.Wait()
		select {
		case <-fifth:
			t.Error("five are written at a time")
		default:
		}
		unwanted := errors.New("unwanted")
		stop(unwanted)
		if err := <-sixth; !errors.Is(err, unwanted) {
			t.Errorf("the sixth: %v, want %v", err, unwanted)
		}
		if err := cimfs.End(dirs[0], nil); err != nil {
			t.Error(err)
		}
		if err := <-fifth; err != nil {
			t.Error(err)
		}
		for _, dir := range dirs[1:] {
			if err := cimfs.End(dir, nil); err != nil {
				t.Error(err)
			}
		}
	})
}
