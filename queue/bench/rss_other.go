//go:build !linux

package bench

// rss is not known here.
func rss() int64 { return 0 }

func peakRSS() int64 { return 0 }
