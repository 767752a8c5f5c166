package clickhouse

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/pkg/fsys"
)

// A cluster has an identity, which whoever makes its tables writes into the meta table of each shard, of the first shard last. A
// collector keeps it in its folder, with the last batch that the cluster has taken. So it notices tables that were made anew, another cluster, and an older copy
// of this one: it then takes nothing for stored, and finds nothing.

// Known is what a collector keeps of its cluster.
type Known struct {
	Identity  string `json:"identity"`
	Delivered uint64 `json:"delivered"` // the last batch that the cluster has taken
	// Day and Parts are where that one is: its rows go with the parts when another collector drops these.
	Day   int32 `json:"day,omitempty"`
	Parts []int `json:"parts,omitempty"`
}

// Memory keeps what is known of a cluster, durably.
type Memory interface {
	// Load returns what Keep was given last; zero: nothing.
	Load() (Known, error)
	Keep(k Known) error
}

// ErrOther is returned where the cluster is not the one that took this collector's batches, or lacks some of them.
var ErrOther = errors.New("the cluster does not have what it took of this collector: its tables were made anew, an older copy of them was restored, or it is another cluster. " +
	"Nothing is inserted, and nothing that waits is lost. Restore the cluster or name the right one; or, to go on with this one without what it lacks, stop the collector, remove the file " + KnownName + " from its folder, and start it")

// KnownName is the file in a collector's folder that has what is known of the cluster.
const KnownName = "events-cluster"

// identityName is the name of the rows of meta that have it.
const identityName = "identity"

// adopt settles which cluster this is, where that is not known: what the first shard has, or else one that is written now.
func (c *servers) adopt(ctx context.Context, names []string, of map[string][]*node) (string, error) {
	w, err := c.word(ctx, of[names[0]])
	if err != nil {
		return "", err
	}
	if len(w.identities) > 0 {
		return w.identities[0], nil
	}
	if c.readOnly {
		return "", fmt.Errorf("%w: it has no identity: no collector has begun to use it", ErrCluster)
	}
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	id := hex.EncodeToString(b[:])
	for _, name := range slices.Backward(names) {
		if err := c.say(ctx, of[name], []string{identityName}, []string{id}); err != nil {
			return "", fmt.Errorf("write which cluster it is: %w", err)
		}
	}
	return id, nil
}

// verify returns an ErrOther where a shard has not the identity that is known; else what the first shard says, by the clock of all that is behind the others'. Where no identity
// is known yet, it settles that.
func (e *Engine) verify(ctx context.Context, names []string, of map[string][]*node) (w word, err error) {
	id, err := e.identity(ctx, names, of)
	if err != nil {
		return w, err
	}
	words := make([]word, len(names))
	g, ctx := errgroup.WithContext(ctx)
	for i, name := range names {
		g.Go(func() (err error) {
			if words[i], err = e.cluster.word(ctx, of[name]); err == nil && !slices.Contains(words[i].identities, id) {
				err = fmt.Errorf("%w (shard %s has not the identity %s)", ErrOther, name, id)
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return w, err
	}
	w = words[0]
	for i := range words {
		if words[i].now.Before(w.now) {
			w.now = words[i].now
		}
	}
	return w, nil
}

// identity returns the one that is known, or settles which it is. Whoever asks meanwhile waits: it is once in the life of a folder.
func (e *Engine) identity(ctx context.Context, names []string, of map[string][]*node) (string, error) {
	e.knowing.Lock()
	defer e.knowing.Unlock()
	if e.kept.Identity != "" {
		return e.kept.Identity, nil
	}
	k, err := e.opts.Memory.Load()
	if err != nil {
		return "", err
	}
	if k.Identity == "" {
		if k.Identity, err = e.cluster.adopt(ctx, names, of); err == nil {
			err = e.opts.Memory.Keep(k)
		}
	}
	if err != nil {
		return "", err
	}
	e.kept = k
	return k.Identity, nil
}

// present is verify, and returns an ErrOther, too, where the cluster lacks the last batch of ours that it has taken. A part that another collector has dropped
// has taken its batches' rows with it: its mark is this cluster's, so nothing is lacking.
func (e *Engine) present(ctx context.Context, names []string, of map[string][]*node, last latest) (w word, err error) {
	if w, err = e.verify(ctx, names, of); err != nil {
		return w, err
	}
	for _, part := range last.parts {
		if _, gone := w.dropped[part]; gone {
			return w, nil
		}
	}
	return w, e.has(ctx, of[names[0]], last.batch)
}

// delivered is the last batch that the cluster has taken, as far as is known, and its parts.
func (e *Engine) delivered() latest {
	e.knowing.Lock()
	defer e.knowing.Unlock()
	l := latest{batch: e.kept.Delivered}
	for _, n := range e.kept.Parts {
		l.parts = append(l.parts, store.Part{Day: dayOf(e.kept.Day), N: n})
	}
	return l
}

// took keeps that the cluster has taken a batch, in those parts of a day. Where the disk has no room, the next batch's says it: what is kept is older then, and less is noticed.
func (e *Engine) took(id uint64, parts []store.Part) error {
	e.knowing.Lock()
	defer e.knowing.Unlock()
	if id <= e.kept.Delivered {
		return nil
	}
	k := e.kept
	k.Delivered, k.Day, k.Parts = id, 0, nil
	for _, part := range parts {
		k.Day, k.Parts = dayNumber(part.Day), append(k.Parts, part.N)
	}
	switch err := e.opts.Memory.Keep(k); {
	case fsys.NoRoom(err):
		e.opts.Log.Warn("no room to keep which batch the cluster has taken", "batch", id, "error", err)
	case err != nil:
		return fmt.Errorf("keep that the cluster has taken batch %d: %w", id, err)
	}
	e.kept = k
	return nil
}

// has returns an ErrOther where the cluster lacks a batch of ours that it has taken.
func (e *Engine) has(ctx context.Context, first []*node, batch uint64) error {
	last, db, own := uint64(0), e.cluster.address.Database, quote(e.opts.Store)
	sql := "SELECT max(batch) FROM " + db + ".batches WHERE store = " + own
	err := e.cluster.shard(first).ask(ctx, sql, func() { last = 0 }, func(scan func(...any) error) error { return scan(&last) })
	switch {
	case err != nil:
		return fmt.Errorf("read which batches there are: %w", err)
	case last < batch:
		return fmt.Errorf("%w (it has batches up to %d, and has taken %d)", ErrOther, last, batch)
	}
	return nil
}

// noMemory keeps nothing beyond the process.
type noMemory struct{ k Known }

func (m *noMemory) Load() (Known, error) { return m.k, nil }
func (m *noMemory) Keep(k Known) error   { m.k = k; return nil }
