package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/store"
)

// Who drops a part says that it is about to, then asks what others have on hold, then marks the part. Who puts something on hold says so, then waits until nobody is about to drop
// anything. So either the one sees the hold, or the other the drop: what is there once something is on hold, stays.

// droppingName and sparedName are the names of the rows of meta that say that somebody is about to drop a part, and that it did not. Both have the same value: that of a mark, the store
// of who does it, and when by its own clock, so that no two are the same.
const (
	droppingName = "dropping"
	sparedName   = "spared"
)

const (
	// markTime is how long it may take from that row to the mark, and droppingTime how long it is waited for: what was sent to a server before may be there a while later.
	markTime     = 30 * time.Second
	droppingTime = 2 * time.Minute
	// droppingOld is how old such a row is by the servers' clocks, which may differ by less, that nobody waits for.
	droppingOld = time.Hour
)

// decide says that a part is about to be dropped, asks what others have on hold, and says with other rows of meta that it is dropped.
func (e *Engine) decide(ctx context.Context, first []*node, p *store.PartStats, d *drop, names, values []string) error {
	ctx, cancel := context.WithTimeout(ctx, markTime)
	defer cancel()
	about := fmt.Sprintf("%s %s %d", dropMark(d.part, d.at), e.opts.Store, e.now().UnixNano())
	if err := e.cluster.say(ctx, first, []string{droppingName}, []string{about}); err != nil {
		return err
	}
	if err := e.held(ctx, first, p); err != nil {
		return errors.Join(err, e.cluster.say(ctx, first, []string{sparedName}, []string{about}))
	}
	return e.cluster.say(ctx, first, append(names, droppedName), append(values, dropMark(d.part, d.at)))
}

// decided waits until nobody is about to drop a part, or is long enough that it will not: this collector neither, whose own mark may have reached a server that has not written it yet.
func (e *Engine) decided(ctx context.Context, first []*node) error {
	for {
		about, err := e.dropping(ctx, first)
		if err != nil || about == "" {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: a collector was about to drop %s before it knew: %w", ErrCluster, about, ctx.Err())
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// dropping returns a part that a collector is about to drop; "" where there is none. For how long it is, this process's own time says, from when it saw that first.
func (e *Engine) dropping(ctx context.Context, first []*node) (about string, err error) {
	var list map[string]store.Part // by the rows' values
	var done map[store.Part]bool
	sql := fmt.Sprintf("SELECT name, value, %s FROM %s.meta WHERE name IN ('%s', '%s', '%s') ORDER BY name, value", serverTime, e.cluster.address.Database, droppedName, droppingName, sparedName)
	err = e.cluster.ask(ctx, first, sql, func() { list, done = map[string]store.Part{}, map[store.Part]bool{} }, func(scan func(...any) error) error {
		var name, value string
		var now int64
		if err := scan(&name, &value, &now); err != nil {
			return err
		}
		if name == sparedName {
			delete(list, value)
			return nil
		}
		part, at, err := markOf(value)
		if err != nil {
			return nil //nolint:nilerr // of nobody who waits for an answer
		}
		switch {
		case name == droppedName:
			done[part] = true
		case time.Unix(now, 0).Sub(at) < droppingOld:
			list[value] = part
		}
		return nil
	})
	if err != nil {
		return "", fmt.Errorf("read which parts are about to be dropped: %w", err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	seen := map[string]time.Time{}
	for value, part := range list {
		if done[part] {
			continue
		}
		first, is := e.about[value]
		if !is {
			first = time.Now()
		}
		if seen[value] = first; time.Since(first) < droppingTime {
			about = part.String()
		}
	}
	e.about = seen
	return about, nil
}
