package remote

import (
	"sync/atomic"

	"github.com/auditfleet/auditfleet/collector/internal/poll"
)

// lane is a poller and what its rounds brought: it submits what
// comes of its sessions without a commit, and at the round's end commits all of it and
// writes the replies.
type lane struct {
	all       *Sessions
	poller    *poll.Poller
	submitted atomic.Bool // something was, in this round
}

func newLane(all *Sessions) (*lane, error) {
	l := &lane{all: all}
	var err error
	l.poller, err = poll.Open(l.commit, all.in.Busy)
	return l, err
}

// commit ends a round.
func (l *lane) commit() {
	if !l.submitted.Swap(false) {
		return
	}
	l.all.writers.hold()
	l.all.in.Commit(!l.poller.IsHot())
	l.all.writers.release()
}
