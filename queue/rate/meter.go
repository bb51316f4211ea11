package rate

import "time"

// meter counts by the second, for the last few.
type meter struct {
	counts [10]float64
	last   int64 // the second up to which they are
}

// add spreads n over the time before now.
func (m *meter) add(now time.Time, n int, over time.Duration) {
	m.pass(now)
	parts := min(max(int64((over+time.Second-1)/time.Second), 1), int64(len(m.counts)))
	for i := range parts {
		m.counts[m.slot(m.last-i)] += float64(n) / float64(parts)
	}
}

// busiest is the most in one second.
func (m *meter) busiest(now time.Time) float64 {
	m.pass(now)
	most := 0.0
	for _, c := range m.counts {
		most = max(most, c)
	}
	return most
}

func (m *meter) pass(now time.Time) {
	s := now.Unix()
	for i := range min(s-m.last, int64(len(m.counts))) {
		m.counts[m.slot(s-i)] = 0
	}
	m.last = max(m.last, s)
}

func (m *meter) slot(s int64) int {
	n := int64(len(m.counts))
	return int((s%n + n) % n)
}
