package roster

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/auditfleet/auditfleet/collector/internal/head"
	"github.com/auditfleet/auditfleet/collector/internal/store"
)

// stuck is a list that takes that a collector runs, and nothing else, however long one waits; the first time it does not take that, either.
type stuck struct {
	list
	mu    sync.Mutex // guards what follows
	hangs bool
	said  []time.Time
	last  store.Member
}

func (s *stuck) Enter(ctx context.Context, m *store.Member) error {
	s.mu.Lock()
	hangs := s.hangs
	s.hangs = false
	s.mu.Unlock()
	if hangs {
		<-ctx.Done()
		return ctx.Err()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.said, s.last = append(s.said, time.Now()), *m
	return nil
}
func (s *stuck) EnterHosts(ctx context.Context, _ []store.MemberHost) error {
	<-ctx.Done()
	return ctx.Err()
}
func (s *stuck) EnterAccounts(ctx context.Context, _ []store.MemberHost) error {
	<-ctx.Done()
	return ctx.Err()
}
func (s *stuck) MemberSenders(ctx context.Context, _ int64) (map[string][]store.KV, int64, error) {
	<-ctx.Done()
	return nil, 0, ctx.Err()
}

// That a collector runs is written in time, whatever of the rest takes long or fails, and with it how old that is; also where a server hangs.
func TestSaidInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stuck{hangs: true}
		r := opened(&s.list, head.Standing{Host: "web1", Received: 10, Stored: 4})
		r.cfg.Roster, r.cfg.Log, r.cfg.Adopt = s, hclog.NewNullLogger(), func(string, []store.KV) error { return errors.New("none came") }
		r.news["web1"] = true
		ctx, cancel := context.WithCancel(t.Context())
		began := time.Now()
		done := make(chan struct{})
		go func() {
			defer close(done)
			r.Run(ctx)
		}()
		const long = 10 * time.Minute
		time.Sleep(long)
		cancel()
		<-done
		last, most := began, time.Duration(0)
		for _, at := range append(s.said, time.Now()) {
			last, most = at, max(most, at.Sub(last))
		}
		if most >= silentAfter {
			t.Errorf("nothing was written for %v", most)
		}
		if s.last.At == 0 || s.last.Stopped || time.Duration(s.last.Behind)*time.Millisecond < long-Interval {
			t.Errorf("written last: %+v", s.last)
		}
	})
}
