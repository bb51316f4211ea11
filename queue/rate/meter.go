package rate

import "time"

// Meter counts what was sent in each of the last seconds. Its zero value is ready.
type Meter struct {
	counts [kept]int
	last   int64 // the second up to which they are
}

// kept is how many seconds back it knows.
const kept = 10

// Add counts n now.
func (m *Meter) Add(now time.Time, n int) {
	m.pass(now)
	m.counts[slot(m.last)] += n
}

// Take gives the counts, the newest first and without zeros at the end, and begins anew.
func (m *Meter) Take(now time.Time) (counts []int) {
	m.pass(now)
	for i := range int64(kept) {
		counts = append(counts, m.counts[slot(m.last-i)])
	}
	for len(counts) > 0 && counts[len(counts)-1] == 0 {
		counts = counts[:len(counts)-1]
	}
	m.counts = [kept]int{}
	return counts
}

// add takes in what another meter gave.
func (m *Meter) add(now time.Time, counts []int) {
	m.pass(now)
	for i, n := range counts[:min(len(counts), kept)] {
		m.counts[slot(m.last-int64(i))] += max(n, 0)
	}
}

// busiest is the most in one second.
func (m *Meter) busiest(now time.Time) int {
	m.pass(now)
	most := 0
	for _, c := range m.counts {
		most = max(most, c)
	}
	return most
}

func (m *Meter) pass(now time.Time) {
	s := now.Unix()
	for i := range min(s-m.last, kept) {
		m.counts[slot(s-i)] = 0
	}
	m.last = max(m.last, s)
}

func slot(second int64) int { return int((second%kept + kept) % kept) }
