package ingest

import (
	"sync/atomic"

	"github.com/auditfleet/auditfleet/collector/internal/poll"
)

// lane is a poller and what its rounds brought: the sessions that it reads hand over
// what came without committing, and at the round's end one commit takes all of it and
// the replies are written at once.
type lane struct {
	in      *Ingest
	poller  *poll.Poller
	brought atomic.Bool // something was handed over in this round
}

func newLane(in *Ingest) (*lane, error) {
	l := &lane{in: in}
	var err error
	l.poller, err = poll.Open(l.commit, in.cfg.Journal.Busy)
	return l, err
}

// commit ends a round.
func (l *lane) commit() {
	if !l.brought.Swap(false) {
		return
	}
	l.in.ackers.hold()
	l.in.cfg.Journal.Commit()
	l.in.ackers.release()
}
