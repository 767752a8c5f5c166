package bolt

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/layout"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/manifest"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/fsys"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// A damaged group is taken out of the outbox in two steps, so that the batches behind it can
// be delivered: keepAside, then discardDamaged. What it keeps is durable before the group is
// deleted. A crash in between sets the group aside once more, under another name.

// keepAside keeps a copy of the partition's file as of any damaged partition
// (NAME.corrupt-TIME). The manifest has the loss, and Missing, for as long as that file lies
// there.
func (s *Store) keepAside(g sealedGroup, cause error) error {
	s.appendMu.Lock()
	defer s.appendMu.Unlock()
	aside := fmt.Sprintf("%s%s%d", g.p.path, layout.AsideMark, time.Now().UnixNano())
	if err := copyDurably(g.p.path, aside); err != nil {
		return errors.Join(cause, fmt.Errorf("set it aside: %w", err))
	}
	x := manifest.Loss{File: filepath.Join(layout.Partitions, filepath.Base(aside)), Found: now(), Batch: g.id}
	lost := uint64(0)
	s.mu.Lock()
	for i := range g.p.entries {
		if e := &g.p.entries[i]; e.id == g.id {
			lost, x.MinMs, x.MaxMs, x.Records, x.Hosts = e.sum.Events, e.sum.MinMs, e.sum.MaxMs, e.sum.Records, e.sum.Hosts
		}
	}
	s.mu.Unlock()
	x.Text = clipText(fmt.Errorf("%w; %d events of batch %d were not delivered", cause, lost, g.id))
	if err := s.list.file.Update(func(c *manifest.Content) { c.AddLoss(x) }); err != nil {
		_ = os.Remove(aside) // a copy
		return errors.Join(cause, err)
	}
	s.mu.Lock()
	s.broken = append(slices.Clone(s.broken), asError(x))
	s.mu.Unlock()
	s.log.Error("a batch was damaged before it was delivered: it is set aside, and the next ones are delivered", "batch", g.id, "events", lost, "error", cause, "set aside as", filepath.Base(aside))
	return nil
}

// SetAside implements store.Asider. A batch is in it for as long as the file lies there that was set aside.
func (o *Outbox) SetAside() map[uint64]bool {
	o.local.mu.Lock()
	defer o.local.mu.Unlock()
	list := map[uint64]bool{}
	for _, err := range o.local.broken {
		if m := (*missingError)(nil); errors.As(err, &m) && m.batch != 0 && m.part == "" {
			list[m.batch] = true
		}
	}
	return list
}

// discardDamaged deletes a group that is kept aside. Where the file is too damaged for that,
// it is repaired: then it is without the group, or the next delivery meets the group in a
// file that can be written.
func (s *Store) discardDamaged(g sealedGroup) error {
	s.appendMu.Lock()
	defer s.appendMu.Unlock()
	err := s.discardLocked(g)
	if errors.Is(err, store.ErrDamaged) && s.repairFor(g.p.part.Day, err) {
		return nil
	}
	return err
}

// copyDurably copies a file as it lies on the disk, and syncs the copy and its name.
func copyDurably(from, to string) (err error) {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(dst, src)
	if err = errors.Join(err, dst.Sync(), dst.Close()); err != nil {
		_ = os.Remove(to) // a part of a copy
		return err
	}
	return fsys.OS.SyncDir(filepath.Dir(to))
}

var _ store.Asider = (*Outbox)(nil)

// lackingSnapshot is an engine's snapshot that lacks what was lost before the engine got it.
type lackingSnapshot struct {
	store.Snapshot
	broken []error
}

// Scan gives what the engine has, and then says what may be lacking.
func (l *lackingSnapshot) Scan(ctx context.Context, q *query.Query, fn func(*event.Event) error) error {
	stopped := false
	err := l.Snapshot.Scan(ctx, q, func(ev *event.Event) error {
		err := fn(ev)
		stopped = errors.Is(err, query.ErrStop)
		return err
	})
	if stopped || err != nil && !errors.Is(err, store.ErrDamaged) {
		return err
	}
	return errors.Join(err, errors.Join(lossesFor(l.broken, q)...))
}

// Tally fails where events may be lacking, as that of the embedded engine does.
func (l *lackingSnapshot) Tally(ctx context.Context, q *query.Query, fields []query.Field, rest func(*event.Event) error) (*query.Tally, error) {
	if broken := lossesFor(l.broken, q); len(broken) > 0 {
		return nil, fmt.Errorf("tally: %w", broken[0])
	}
	return l.Snapshot.Tally(ctx, q, fields, rest)
}
