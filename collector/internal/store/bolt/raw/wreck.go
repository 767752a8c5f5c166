package raw

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/layout"
	"github.com/auditfleet/auditfleet/pkg/event"
)

// OpenWreck reads the tree of a partition's file that was set aside, which no store uses any
// more. The file's name tells its day. The caller closes it.
func OpenWreck(path string) (*Partition, error) {
	name, _, ok := strings.Cut(filepath.Base(path), layout.Suffix)
	part, perr := store.ParsePart(name)
	if !ok || perr != nil {
		return nil, fmt.Errorf("%w: %s: a partition's file has a name such as 2026-11-22%s.corrupt-1", store.ErrNotOurs, path, layout.Suffix)
	}
	p, err := Open(path, part, false)
	if p == nil {
		return nil, err
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", path, err), p.Close())
	}
	return p, nil
}

// Salvage calls fn with each event of a group of p that can be read, which is valid until
// fn returns. It returns what cannot be read, and how many events that concerns. b is the
// group's bytes, nil where they were not found.
func (v *Verifier) Salvage(p *Partition, g *Group, b []byte, fn func(host string, ev *event.Event)) (found []Finding, lost uint64) {
	if b == nil {
		return []Finding{{Path: p.Path, Group: g.ID, Block: -1, Events: g.Sum.Events, MinMs: g.Sum.FirstMs, MaxMs: g.Sum.MaxMs,
			Err: fmt.Errorf("%w: its bytes are not to be found", store.ErrDamaged)}}, g.Sum.Events
	}
	x := v.codec.Salvage(b, fn)
	for _, f := range x.Findings {
		lost += f.Events
		found = append(found, Finding{Path: p.Path, Offset: g.At.Off + f.Offset, Group: g.ID, Block: f.Block, Host: f.Host, Events: f.Events, MinMs: f.MinMs, MaxMs: f.MaxMs, Err: f.Err})
	}
	if held := max(g.Sum.Events, x.Summary.Events); held > x.Events {
		lost = max(lost, held-x.Events)
	}
	return found, lost
}
