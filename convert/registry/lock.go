package registry

import (
	"context"
	"os"
	"time"
)

// lockPoll is how often a lock is tried that another process holds: it is held
// for one small write.
const lockPoll = 10 * time.Millisecond

// lock waits for the exclusive lock on f, which closing f gives up.
func lock(ctx context.Context, f *os.File) error {
	for {
		got, err := tryLock(f)
		if got || err != nil {
			return err
		}
		if err := sleep(ctx, lockPoll); err != nil {
			return err
		}
	}
}
