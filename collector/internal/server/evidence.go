package server

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/api"
	"github.com/auditfleet/auditfleet/collector/internal/evidence"
	"github.com/auditfleet/auditfleet/collector/internal/head"
	"github.com/auditfleet/auditfleet/collector/internal/seal"
	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/pkg/query"
	"github.com/auditfleet/auditfleet/proto/fleet"
)

// CoverageJSON writes answers as `collector coverage --detail --format json` does. The command line sets
// it, before any collector runs.
type CoverageJSON func(list []*fleet.Coverage) []byte

// bundling is what bundles of evidence are made of, in a running collector or from a store's files.
type bundling struct {
	head     *head.Head
	store    store.Store
	log      *seal.Log // nil: the store has no log
	version  string
	coverage CoverageJSON
	atRest   bool
	turns    *turns                // nil at rest
	tampered func(*evidence.Query) // hears of a bundle which says that what is stored is not what the log has; nil: nobody does
}

// turns has bundles begun one a second: each has what is in memory stored, as a batch of its own, and whoever
// may read must not fill the store with small ones.
type turns struct {
	one  chan struct{} // of 1: who has put something in has the turn
	next time.Time     // of who has the turn: when it may begin
}

func newTurns() *turns { return &turns{one: make(chan struct{}, 1)} }

// wait waits for a turn. One that is not waited for is nobody's: who asks and goes away holds up nobody.
func (t *turns) wait(ctx context.Context) error {
	select {
	case t.one <- struct{}{}:
		defer func() { <-t.one }()
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case <-time.After(time.Until(t.next)):
		t.next = time.Now().Add(time.Second)
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// make makes a bundle.
func (b *bundling) make(ctx context.Context, q *query.Query, a api.Bundle, send func(string, []byte) error) error {
	m := evidence.Making{
		Query: q, Scan: b.head.Scan, Memory: q.Memory, Send: send, AtRest: b.atRest,
		About:    evidence.Query{Collector: b.version, Store: storeID(b.store), Words: a.Words, Zone: a.Zone},
		Coverage: b.covers,
	}
	if groups, err := store.Able[evidence.Groups](b.store, "prove events"); err == nil {
		m.Groups = groups // else none is proved, and the bundle says why
	}
	b.cluster(&m)
	if err := b.moment(ctx, &m, a.Checkpoint); err != nil {
		return err
	}
	about, err := evidence.Make(ctx, m)
	if err == nil && b.tampered != nil && evidence.Tampered(&about) {
		b.tampered(&about)
	}
	return err
}

// moment fixes up to which batch there are events in the bundle, and the checkpoint.
func (b *bundling) moment(ctx context.Context, m *evidence.Making, at []byte) error {
	if !b.atRest {
		if err := b.turns.wait(ctx); err != nil {
			return err
		}
		if err := b.head.Flush(ctx); err != nil { // what is in memory is in no batch yet
			return fmt.Errorf("store what is in memory: %w", err)
		}
	}
	m.About.LastBatch = b.head.Stats().StoredID
	if b.log == nil {
		m.Why = "the store has no log"
		if at != nil {
			return fmt.Errorf("%w: %s", api.ErrQuery, m.Why)
		}
		return nil
	}
	m.Log, m.Signer = b.log, b.log.Signer()
	if at != nil {
		c, last, err := b.log.At(at)
		if err != nil {
			return fmt.Errorf("%w: %w", api.ErrQuery, err)
		}
		m.Checkpoint, m.Size, m.Until, m.About.LastBatch = at, c.Size, c.Time.UnixMilli(), last
		return nil
	}
	text, c := b.log.Latest()
	if why := b.log.Status().Stopped; b.atRest && why != "" {
		m.Why = fmt.Sprintf("%v: %s", seal.ErrStopped, why)
		return nil
	}
	if !b.atRest {
		var err error
		text, c, err = b.log.Checkpoint(ctx)
		switch {
		case errors.Is(err, seal.ErrNoKey), errors.Is(err, seal.ErrStopped), errors.Is(err, seal.ErrNoLog):
			m.Why = err.Error()
			return nil
		case err != nil:
			return fmt.Errorf("sign a checkpoint: %w", err)
		}
	}
	if len(text) == 0 {
		m.Why = seal.ErrNoKey.Error()
		return nil
	}
	m.Checkpoint, m.Size, m.Until = text, c.Size, c.Time.UnixMilli()
	return nil
}

// covers writes the coverage of hosts in a time.
func (b *bundling) covers(ctx context.Context, hosts []string, fromMs, toMs int64) ([]byte, error) {
	if len(hosts) == 0 || b.coverage == nil {
		return nil, nil
	}
	is := map[string]bool{}
	for _, h := range hosts {
		is[h] = true
	}
	var list []*fleet.Coverage
	err := coverage(ctx, b.head, &keeping{}, &fleet.CoverageRequest{FromMs: fromMs, ToMs: toMs, Intervals: true}, func(c *fleet.Coverage) error {
		if is[string(c.GetHost())] {
			c.UpMs, c.DownMs, c.Run = 0, 0, "" // how it stands today is no part of the time asked
			list = append(list, c)
		}
		return nil
	})
	return b.coverage(list), err
}

// MakeEvidence makes a bundle of evidence.
func (l *live) MakeEvidence(ctx context.Context, q *query.Query, a api.Bundle, send func(string, []byte) error) error {
	b := bundling{head: l.Head, store: l.s.store, log: l.s.sealLog(), version: l.s.cfg.Version, coverage: l.s.cfg.CoverageJSON, turns: l.s.turns,
		tampered: func(q *evidence.Query) {
			l.s.cfg.Log.Named("seal").Error("what is stored is not what the log has: a bundle of evidence says so, and collector verify says more", "why", q.Why, "missing", q.Missing)
		}}
	return b.make(ctx, q, a, send)
}

// sealLog is the log that signs; nil where there is none.
func (s *Server) sealLog() *seal.Log { return s.seal }

// Evidence makes a bundle of evidence from the store's files, whose newest checkpoint it has. It is signed where
// the key is at its usual place and may be read.
func (r *ReadOnly) Evidence(ctx context.Context, q *query.Query, a api.Bundle, send func(string, []byte) error) error {
	b := bundling{head: r.Head, store: r.store, version: r.Version, coverage: r.CoverageJSON, atRest: true}
	if s, err := store.Able[seal.Keeper](r.store, "keep a log of what was stored"); err == nil && s.Seals() != nil {
		cfg := seal.LogConfig{Tree: s.Seals(), Store: r.dir}
		if signer, public, err := seal.ReadKey(DefaultSealKey); err == nil {
			cfg.Signer, cfg.Public = signer, public
		}
		log, err := seal.OpenLog(cfg)
		if err != nil {
			return err
		}
		b.log = log
	}
	return b.make(ctx, q, a, send)
}
