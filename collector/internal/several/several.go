// Package several asks several collectors, each with a store of its own, as if one had it all: their
// answers are merged by time, and what two of them have is given once. Where a collector cannot be asked, or
// fails while it answers, the others' answers are given, and Missing says what they lack. Only the
// collector's command line may import it.
//
// What is promised of a host that sent to one collector and then to another: its events of both are in the
// answer, in the order of one store (time, node, serial). An event that both have, because it was sent again, is
// given once; records that only one of them has are joined to it. Each collector decides by
// what it has of an event whether it is found.
package several

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/api"
	"github.com/auditfleet/auditfleet/pkg/query"
	"github.com/auditfleet/auditfleet/proto/fleet"
)

var (
	// ErrNone is returned when no collector could be asked.
	ErrNone = errors.New("none of the collectors could be asked")
	// ErrOne is returned for a question that only one collector can answer: its numbers of batches
	// mean nothing to another one.
	ErrOne = errors.New("that can be asked of one collector only")
	// errSilent is why a collector is given up that answers nothing.
	errSilent = errors.New("it does not answer")
)

// Collector is one that is asked.
type Collector interface {
	api.Source
	io.Closer
}

// Member says which collector is to be asked, and how it is reached.
type Member struct {
	Name string // as messages name it
	Open func(context.Context) (Collector, error)
}

// Failure is what the answers lack of a collector.
type Failure = api.Lack

// Source is the collectors as one api.Source. A collector that has failed is not asked again. Any number of
// goroutines may use it.
type Source struct {
	wait    time.Duration
	members []*member
	same    []string
	told    func(Failure)
	apart   bool
	answers atomic.Int64 // to who follows, so far

	mu     sync.Mutex // guards failed, and gone of the members
	failed []Failure
}

// member is a collector that is asked.
type member struct {
	name string
	src  Collector // nil where it was not reached
	open func(context.Context) (Collector, error)
	gone bool
}

// Open reaches all collectors at once, and gives each of them so much time to answer; also later a collector
// that has answered nothing for so long is given up. A collector that has several names is asked by the first. Errors: ErrNone.
// The caller closes the Source.
func Open(ctx context.Context, members []Member, wait time.Duration) (*Source, error) {
	s := &Source{wait: wait}
	type opened struct {
		src Collector
		who who
		err error
	}
	all := make([]opened, len(members))
	var opening sync.WaitGroup
	for i := range members {
		opening.Go(func() {
			o := &all[i]
			o.src, o.who, o.err = reach(ctx, members[i], wait)
		})
	}
	opening.Wait()
	names := map[who]string{}
	for i, o := range all {
		name := members[i].Name
		if o.err != nil {
			m := &member{name: name, open: members[i].Open}
			s.members = append(s.members, m)
			s.fail(m, Failure{Err: o.err})
			continue
		}
		if first, ok := names[o.who]; ok && o.who.store != "" {
			s.same = append(s.same, fmt.Sprintf("%s and %s have the same store: it is asked once", first, name))
			if err := o.src.Close(); err != nil {
				return nil, errors.Join(err, s.Close())
			}
			continue
		}
		names[o.who] = name
		s.members = append(s.members, &member{name: name, src: o.src, open: members[i].Open})
	}
	if err := s.none(); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// Apart says that no two of the collectors have the same events, but for what a host has sent to two of them because it moved. It is called before the first
// question.
func (s *Source) Apart() { s.apart = true }

// who is what tells collectors apart. That the store's ID is the same does not suffice: a backup has it, too, and a collector that
// runs on one has days that the other has dropped, and what it received since.
type who struct {
	store   string
	pid     uint32
	started int64 // in ms since 1970
}

// teller is a collector that says how it fares. One that does not run cannot.
type teller interface {
	Status(context.Context) (*fleet.StatusResponse, error)
}

// reach opens a collector and asks which it is.
func reach(ctx context.Context, m Member, wait time.Duration) (_ Collector, id who, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, wait, fmt.Errorf("%w within %v", errSilent, wait))
	defer cancel()
	src, err := m.Open(ctx)
	if err == nil {
		if id, err = whoIs(ctx, src); err == nil {
			return src, id, nil
		}
		err = errors.Join(err, src.Close())
	}
	if cause := context.Cause(ctx); errors.Is(cause, errSilent) {
		err = cause
	}
	return nil, who{}, err
}

// whoIs asks a collector which it is.
func whoIs(ctx context.Context, src Collector) (who, error) {
	if st, ok := src.(teller); ok {
		is, err := st.Status(ctx)
		return who{is.GetStoreId(), is.GetPid(), is.GetStartedMs()}, err
	}
	about, err := src.About(ctx)
	return who{store: about.Store}, err
}

// Same says which collectors were named twice, a line each.
func (s *Source) Same() []string { return s.same }

// SayAtOnce has say called with what the answers lack as soon as that is found out. It is called before the first question.
func (s *Source) SayAtOnce(say func(Failure)) {
	for _, f := range s.Missing() {
		say(f)
	}
	s.told = say
}

// SaidAtOnce reports whether that was asked for.
func (s *Source) SaidAtOnce() bool { return s.told != nil }

// Missing returns what the answers that were given so far lack, in the order in which it was found out; nothing where
// they are whole. It has what collectors say that their own answers lack.
func (s *Source) Missing() []Failure {
	s.mu.Lock()
	list := append([]Failure(nil), s.failed...)
	s.mu.Unlock()
	for _, m := range s.members {
		lacking, ok := m.src.(interface{ Missing() []Failure })
		if !ok {
			continue
		}
		for _, f := range lacking.Missing() {
			if !slices.ContainsFunc(list, func(o Failure) bool { return o.Collector == f.Collector }) {
				list = append(list, f)
			}
		}
	}
	return list
}

// fail notes that a collector failed, which is not asked any more.
func (s *Source) fail(m *member, f Failure) {
	f.Collector = m.name
	s.mu.Lock()
	gone := m.gone
	m.gone = true
	if !gone {
		s.failed = append(s.failed, f)
	}
	s.mu.Unlock()
	if !gone && s.told != nil {
		s.told(f)
	}
}

// lacks notes what the answer of a collector lacks that can be asked further.
func (s *Source) lacks(m *member, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.failed {
		if f.Collector == m.name {
			return
		}
	}
	s.failed = append(s.failed, Failure{Collector: m.name, Err: err, Part: true})
}

// asked returns the collectors that have not failed, in the order in which they were named.
func (s *Source) asked() (list []*member) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range s.members {
		if !m.gone {
			list = append(list, m)
		}
	}
	return list
}

// none returns an error where no collector is left.
func (s *Source) none() error {
	if len(s.asked()) > 0 {
		return nil
	}
	err := ErrNone
	for _, f := range s.Missing() {
		err = fmt.Errorf("%w\n  %s: %s", err, f.Collector, f.Why())
	}
	return err
}

// Close implements io.Closer.
func (s *Source) Close() (err error) {
	for _, m := range s.members {
		if m.src != nil {
			err = errors.Join(err, m.src.Close())
		}
	}
	return err
}

// call makes a call of a collector; see Watch.
func (s *Source) call(ctx context.Context, m *member, fn func(context.Context) error) error {
	return Watch(ctx, m.src, s.wait, fn)
}

// Watch makes a call of a collector, and ends it when the collector answers nothing any more for so long: an answer may
// take as long as it likes, but meanwhile a collector that runs says how it fares.
func Watch(ctx context.Context, src api.Source, wait time.Duration, fn func(context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var looking sync.WaitGroup
	if st, ok := src.(teller); ok {
		looking.Go(func() {
			look := time.NewTicker(wait / 4)
			defer look.Stop()
			for {
				select {
				case <-ctx.Done():
					return
				case <-look.C:
				}
				if err := late(ctx, wait, st.Status); err != nil {
					cancel(err)
					return
				}
			}
		})
	}
	err := fn(ctx)
	if cause := context.Cause(ctx); errors.Is(cause, errSilent) {
		err = cause
	}
	cancel(nil)
	looking.Wait()
	return err
}

// late returns errSilent where a collector does not say how it fares. What else it fails with, the call that
// is under way hears, too.
func late(ctx context.Context, wait time.Duration, status func(context.Context) (*fleet.StatusResponse, error)) error {
	ctx, cancel := context.WithTimeoutCause(ctx, wait*3/4, fmt.Errorf("%w any more, for %v", errSilent, wait))
	defer cancel()
	if _, err := status(ctx); err != nil && errors.Is(context.Cause(ctx), errSilent) {
		return context.Cause(ctx)
	}
	return nil
}

// About implements query.Source. There is no one store.
func (s *Source) About(context.Context) (query.About, error) {
	return query.About{Indexed: true}, s.none()
}

var _ Collector = (*Source)(nil)
