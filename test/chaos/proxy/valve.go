package proxy

import "sync"

// valve lets bytes through while it is open. The zero value is open.
type valve struct {
	mu   sync.Mutex
	shut chan struct{} // closed when the valve opens; nil while it is open
}

func (v *valve) close() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.shut == nil {
		v.shut = make(chan struct{})
	}
}

func (v *valve) open() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.shut != nil {
		close(v.shut)
		v.shut = nil
	}
}

// pass waits until the valve is open; false if done comes first.
func (v *valve) pass(done <-chan struct{}) bool {
	for {
		v.mu.Lock()
		shut := v.shut
		v.mu.Unlock()
		if shut == nil {
			return true
		}
		select {
		case <-shut:
		case <-done:
			return false
		}
	}
}
