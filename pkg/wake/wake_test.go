package wake

import (
	"sync"
	"testing"
)

// A receiver that looks at the state after each receive has seen the last change,
// however many Sets fell together.
func TestNoChangeIsMissed(t *testing.T) {
	const writers, each = 4, 1000
	var (
		mu sync.Mutex
		n  int
	)
	s := New()
	for range writers {
		go func() {
			for range each {
				mu.Lock()
				n++
				mu.Unlock()
				s.Set()
			}
		}()
	}
	for {
		<-s // were one missed, the test would hang
		mu.Lock()
		all := n == writers*each
		mu.Unlock()
		if all {
			return
		}
	}
}

func TestSetsAreWorthOne(t *testing.T) {
	s := New()
	s.Set()
	s.Set()
	<-s
	select {
	case <-s:
		t.Error("two Sets without a receive between them woke twice")
	default:
	}
}
