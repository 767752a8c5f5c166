package server

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/auditfleet/auditfleet/collector/internal/api"
	"github.com/auditfleet/auditfleet/collector/internal/head"
	"github.com/auditfleet/auditfleet/collector/internal/hold"
	"github.com/auditfleet/auditfleet/collector/internal/importer"
	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/pkg/importing"
)

var _ api.Importer = (*imports)(nil)

// imports are those of a collector, or of a store that none has.
type imports struct {
	head  *head.Head
	store store.Store
	now   func() time.Time
	log   hclog.Logger
	room  func() error
	keep  *hold.Keep
	// maxDays is for how many days the collector keeps all events at least, 0: for ever, or none runs that would drop any.
	maxDays func() int
	// while keeps retention from dropping anything meanwhile; nil: nobody drops.
	while func(func() error) error

	summaries importer.Summaries

	mu      sync.Mutex // guards the rest
	running *runningImport
	latest  string         // the host that had the last turn
	waiting map[string]int // how many imports are to begin, by host
}

// runningImport is the import that is under way.
type runningImport struct {
	api.Importing
	since time.Time
	ended chan struct{} // closed at its end
}

// openImports is part of openAPI.
func (s *Server) openImports() *imports {
	return &imports{
		head: s.head, store: s.store, now: s.cfg.Now, log: s.cfg.Log.Named("import"), keep: s.holds.keep, while: s.retention.While,
		maxDays: func() int { return s.retention.Limits().Shortest() },
		room: func() error {
			if err := s.space.Admit(0); err != nil {
				return fmt.Errorf("%w: nothing more is imported: make room, and begin the import again: it goes on where it was", err)
			}
			if s.space.IsLow() {
				return errors.New("less than space_left is free: nothing more is imported, for days would be dropped for it: make room, and begin the import again: it goes on where it was")
			}
			return nil
		},
	}
}

// BeginImport implements api.Importer.
func (i *imports) BeginImport(ctx context.Context, a api.Importing) (importing.Sink, int64, error) {
	if err := store.CheckImport(a.Name); err != nil { // others may be told it
		return nil, 0, err
	}
	i.wait(a.Host, 1)
	defer i.wait(a.Host, -1)
	// One whose command was killed ends once that is noticed, and what it has is stored.
	for until := time.Now().Add(endsWithin); ; {
		other, taken := i.take(a)
		if taken {
			break
		}
		var ended chan struct{}
		patience := time.Until(until)
		if other == nil {
			patience = min(patience, yields)
		} else {
			ended = other.ended
			if other.Host != "" && other.Stop != nil && (a.Host == "" || i.now().Sub(other.since) > turn) {
				other.Stop()
			}
		}
		select {
		case <-ended:
		case <-time.After(patience):
			if time.Now().Before(until) {
				continue
			}
			return nil, 0, other.busy(a.Host)
		case <-ctx.Done():
			return nil, 0, ctx.Err()
		}
	}
	s, err := i.begin(ctx, a)
	if err != nil {
		i.leave()
		return nil, 0, err
	}
	if !a.Dry {
		i.log.Info("an import begins", "name", a.Name, "by", a.By)
	}
	return &oneImport{s, i, a}, int64(i.maxDays()), nil
}

const (
	// endsWithin is how long an import waits for the end of another one.
	endsWithin = 10 * time.Second
	// turn is for how long a host imports while another one waits: it goes on when it is its turn again.
	turn = 2 * time.Minute
	// yields is how long a host that had a turn leaves the next one to another that waits.
	yields = 20 * time.Millisecond
	// mostOfHost is how many imports that can be taken back a host may have: each has files of its own. mostNotes is how many
	// notes these may have: all are read when an import begins.
	mostOfHost = 16
	mostNotes  = 50_000
)

// busy is said to one who has waited for r in vain; what others import is not for a host to know.
func (r *runningImport) busy(host string) error {
	if host != "" {
		return fmt.Errorf("%w: another import is under way at the collector", importing.ErrTurn)
	}
	return fmt.Errorf("%w: import %s is under way: wait for its end", api.ErrImport, r.Name)
}

// wait counts an import of a host that is to begin, or has begun.
func (i *imports) wait(host string, n int) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.waiting == nil {
		i.waiting = map[string]int{}
	}
	if i.waiting[host] += n; i.waiting[host] == 0 {
		delete(i.waiting, host)
	}
}

// take makes an import the one that runs; else it returns the one that runs, nil where it is another one's turn: a host that had
// one has no other while somebody else waits, however many imports it begins.
func (i *imports) take(a api.Importing) (other *runningImport, taken bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	switch {
	case i.running != nil:
		return i.running, false
	case a.Host == "":
	case a.Host == i.latest && len(i.waiting) > 1: // itself, and others
		return nil, false
	default:
		i.latest = a.Host
	}
	i.running = &runningImport{a, i.now(), make(chan struct{})}
	return nil, true
}

// leave says that none runs any more.
func (i *imports) leave() {
	i.mu.Lock()
	defer i.mu.Unlock()
	close(i.running.ended)
	i.running = nil
}

// begin begins the session. A host goes on with its own imports only.
func (i *imports) begin(ctx context.Context, a api.Importing) (*importer.Session, error) {
	if a.Host != "" {
		list, err := i.ListImports(ctx, "")
		if err != nil {
			return nil, err
		}
		own, notes := 0, 0
		for _, x := range list {
			switch {
			case x.Host != a.Host && x.Name == a.Name:
				return nil, fmt.Errorf("%w: %s is the name of another import: give it another one (--name)", api.ErrImport, a.Name)
			case x.Host != a.Host:
				continue
			case x.Name != a.Name:
				own++
			}
			notes += x.Notes
		}
		if notes >= mostNotes {
			return nil, fmt.Errorf("%w: %s has imported %d parts: wait until they have gone to the days of their events", api.ErrImport, a.Host, notes)
		}
		if own >= mostOfHost {
			return nil, fmt.Errorf("%w: %s has %d imports that can be taken back: use the name of one of them (--name), or wait until they have gone to the days of their events", api.ErrImport, a.Host, own)
		}
	}
	return importer.Begin(ctx, importer.Config{Name: a.Name, By: a.By, Host: a.Host, Target: i.head, Now: i.now, Room: i.room, Dry: a.Dry, Summaries: &i.summaries})
}

// oneImport is a session of an import that nobody else may run beside.
type oneImport struct {
	*importer.Session
	i *imports
	a api.Importing
}

// End implements importing.Sink.
func (x *oneImport) End(ctx context.Context) (importing.Sum, error) { return x.end(ctx, x.Session.End) }

// Interrupt implements importing.Sink.
func (x *oneImport) Interrupt(ctx context.Context) (importing.Sum, error) {
	return x.end(ctx, x.Session.Interrupt)
}

func (x *oneImport) end(ctx context.Context, f func(context.Context) (importing.Sum, error)) (importing.Sum, error) {
	sum, err := f(ctx)
	x.i.leave()
	if !x.a.Dry {
		x.i.log.Info("an import has ended", "name", x.a.Name, "files", sum.Files, "records", sum.Records, "stored", sum.Stored, "skipped", sum.Skipped, "error", err)
	}
	return sum, err
}

// ListImports implements api.Importer.
func (i *imports) ListImports(ctx context.Context, host string) ([]importer.Summary, error) {
	s, err := i.head.Imports()
	if err != nil {
		return nil, err
	}
	list, err := i.summaries.List(ctx, s)
	if host != "" {
		list = slices.DeleteFunc(list, func(x importer.Summary) bool { return x.Host != host })
	}
	return list, err
}

// UndoImport implements api.Importer. What is on hold is not taken back.
func (i *imports) UndoImport(ctx context.Context, name, why string) (done store.Undone, err error) {
	s, err := i.head.Imports()
	if err != nil {
		return done, err
	}
	undo := func() error {
		i.mu.Lock()
		defer i.mu.Unlock()
		if i.running != nil && i.running.Name == name {
			return fmt.Errorf("take back import %s: %w: it is under way", name, store.ErrInUse)
		}
		list, err := s.Imports(ctx)
		if err != nil {
			return err
		}
		for _, x := range list {
			if x.Name != name {
				continue
			}
			if err := i.held(ctx, x.Parts); err != nil {
				return fmt.Errorf("take back import %s: %w", name, err)
			}
		}
		done, err = s.UndoImport(ctx, name, why)
		return err
	}
	if i.while == nil {
		err = undo()
	} else {
		err = i.while(undo)
	}
	if err == nil {
		i.log.Info("an import was taken back", "name", name, "records", done.Records, "events that stay", done.Stays, "why", why)
	}
	return done, err
}

// held returns an error where one of the parts is on hold.
func (i *imports) held(ctx context.Context, parts []store.Part) error {
	st, err := i.store.Stats(ctx)
	if err != nil {
		return err
	}
	for _, part := range parts {
		for j := range st.Parts {
			if p := &st.Parts[j]; p.Part == part {
				if why := i.keep.Why(ctx, p); why != "" {
					return fmt.Errorf("%w: partition %s is on hold: %s: `collector hold remove` takes it off", api.ErrImport, part, why)
				}
			}
		}
	}
	return nil
}
