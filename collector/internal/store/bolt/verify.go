package bolt

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/group"
	"github.com/auditfleet/auditfleet/pkg/seglog"
)

// Finding is one thing in a file of the store that is not as it should be.
type Finding struct {
	Path   string
	Offset int64  // in the file
	Group  uint64 // 0: of no group
	Block  int    // -1: of no block
	Host   string // of the block
	Events uint64 // stored events that cannot be read because of it
	MinMs  int64  // of these events, where that is known
	MaxMs  int64
	Err    error
}

func (f *Finding) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: offset %d: ", f.Path, f.Offset)
	if f.Group > 0 {
		fmt.Fprintf(&b, "group %d: ", f.Group)
	}
	if f.Block >= 0 {
		fmt.Fprintf(&b, "block %d of host %.80q: ", f.Block, f.Host)
	}
	fmt.Fprint(&b, strings.TrimPrefix(f.Err.Error(), store.ErrDamaged.Error()+": "))
	if f.Events > 0 {
		fmt.Fprintf(&b, "; %d events cannot be read", f.Events)
		if f.MaxMs > 0 {
			fmt.Fprintf(&b, ", of %s to %s", utc(f.MinMs), utc(f.MaxMs))
		}
	}
	return b.String()
}

func (f *Finding) Unwrap() error { return f.Err }

func utc(ms int64) string { return time.UnixMilli(ms).UTC().Format("2006-01-02T15:04:05.000Z") }

// PartReport is what a partition holds and what is wrong with it.
type PartReport struct {
	Path string
	store.Part
	Size     int64 // of the file
	Groups   int
	ID       seglog.ID // of the store; zero: the file does not say it
	FirstID  uint64    // of the first batch with events; 0: there is none
	Blocks   int       // readable, as all that follows
	Events   uint64    // less than Said where events cannot be read
	Records  uint64
	RawBytes uint64
	Said     uint64 // events by the catalogue
	Hosts    map[string]group.HostSum
	// State is the writer's place when the file was last written, with the hosts
	// known then; nil when it cannot be read.
	State    *store.State
	Findings []Finding
}

// rawPart is a partition's tree at one moment.
type rawPart struct {
	part   store.Part
	format []byte
	dayVal []byte
	number []byte
	id     seglog.ID // of the store
	state  []byte
	hosts  []store.KV
	groups []rawGroup
	found  []Finding
}

// rawGroup is a group's place and what the catalogue says of it.
type rawGroup struct {
	id   uint64
	at   place // size 0: it could not be found
	sum  group.Summary
	said bool // it is in the catalogue
	key  []byte
	cat  []byte // the catalogue's entry
	from int64  // where that is
}

// tree reads a partition's tree: everything but the groups' bytes.
func (r *rawFile) tree(part store.Part, quick bool) (*rawPart, error) {
	var p *rawPart
	err := r.attempt(func() error {
		p = &rawPart{part: part}
		r.note = func(off int64, err error) {
			p.found = append(p.found, Finding{Path: r.path, Offset: off, Block: -1, Err: err})
		}
		if err := r.loadMeta(r.note); err != nil {
			return err
		}
		groups := map[uint64]*rawGroup{}
		buckets := map[string]bool{}
		r.walk(r.meta.root, func(e *elem) {
			name := string(e.key)
			if !e.bucket {
				r.damaged(e.at, "page %d: %.40q is not a bucket", e.page, name)
				return
			}
			buckets[name] = true
			p.bucket(r, name, e, groups)
		})
		for _, name := range [][]byte{bktMeta, bktGroups, bktCatalog, bktHosts} {
			if !buckets[string(name)] {
				r.damaged(0, "no bucket %q", name)
			}
		}
		for _, id := range slices.Sorted(maps.Keys(groups)) {
			p.groups = append(p.groups, *groups[id])
		}
		if !quick {
			r.free()
		}
		return nil
	})
	return p, err
}

// bucket reads one of a partition's buckets.
func (p *rawPart) bucket(r *rawFile, name string, e *elem, groups map[uint64]*rawGroup) {
	of := func(key []byte) *rawGroup {
		id := binary.BigEndian.Uint64(key)
		if groups[id] == nil {
			groups[id] = &rawGroup{id: id, key: key}
		}
		return groups[id]
	}
	switch name {
	case string(bktMeta):
		r.sub(e, func(e *elem) {
			switch string(e.key) {
			case string(keyFormat):
				p.format = e.value
			case string(keyDay):
				p.dayVal = e.value
			case string(keyPart):
				p.number = e.value
			case string(keyStore):
				var err error
				if p.id, err = decodeID(e.value); err != nil {
					r.note(e.from(), err)
				}
			case string(keyState):
				p.state = e.value
				if _, err := decodeState(e.value); err != nil {
					r.note(e.from(), fmt.Errorf("the writer's place in the journal: %w", err))
				}
			default:
				r.damaged(e.at, "page %d: unknown mark %.40q", e.page, e.key)
			}
		})
	case string(bktGroups):
		r.sub(e, func(e *elem) {
			if len(e.key) != 8 || !e.bucket {
				r.damaged(e.at, "page %d: %.40x is not a group", e.page, e.key)
				return
			}
			if at, ok := r.blob(e); ok {
				of(e.key).at = at
			}
		})
	case string(bktCatalog):
		r.sub(e, func(e *elem) {
			sum, err := group.DecodeSummary(e.value)
			if err != nil || len(e.key) != 8 || e.bucket {
				r.damaged(e.at, "page %d: catalogue entry %.40x", e.page, e.key)
				return
			}
			g := of(e.key)
			g.sum, g.said, g.cat, g.from = sum, true, e.value, e.from()
		})
	case string(bktHosts):
		r.sub(e, func(e *elem) {
			if _, err := decodeHost(e.key, e.value); err != nil {
				r.note(e.from(), err)
			}
			p.hosts = append(p.hosts, store.KV{Key: e.key, Value: e.value})
		})
	default:
		r.damaged(e.at, "page %d: unknown bucket %.40q", e.page, name)
	}
}

// Verifier reads whole files of a store and says what is wrong with them. It takes
// no lock and changes nothing: it may run beside a server.
type Verifier struct {
	codec   *group.Codec
	workers int
	// Progress, when not nil, is told of bytes read, from several goroutines.
	Progress func(bytes int64)
}

// NewVerifier makes a verifier that uses so many goroutines.
func NewVerifier(workers int) (*Verifier, error) {
	c, err := group.NewCodec(workers)
	if err != nil {
		return nil, err
	}
	return &Verifier{codec: c, workers: max(workers, 1)}, nil
}

// Close releases the verifier's buffers.
func (v *Verifier) Close() error { return v.codec.Close() }

// Partition verifies a partition: pages, free list, catalogue, each group's
// checksums, events and index. An error says that it could not be looked at.
func (v *Verifier) Partition(ctx context.Context, path string, part store.Part) (_ *PartReport, err error) {
	r, err := openRaw(path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	p, err := r.tree(part, false)
	out := &PartReport{Path: path, Part: part, Hosts: map[string]group.HostSum{}, Size: r.size}
	if errors.Is(err, store.ErrDamaged) {
		out.Findings = append(out.Findings, Finding{Path: path, Block: -1, Err: err})
		return out, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	out.Findings = p.found
	out.ID = p.id
	out.marks(p)
	if len(p.groups) > 0 {
		out.FirstID = p.groups[0].id
	}
	if err := v.groups(ctx, r, p.groups, out); err != nil {
		return nil, err
	}
	slices.SortStableFunc(out.Findings, func(a, b Finding) int {
		if a.Group != b.Group {
			return int(int64(a.Group) - int64(b.Group))
		}
		return int(a.Offset - b.Offset)
	})
	return out, nil
}

// marks checks the partition's own marks.
func (out *PartReport) marks(p *rawPart) {
	note := func(format string, args ...any) {
		out.Findings = append(out.Findings, Finding{Path: out.Path, Block: -1, Err: fmt.Errorf("%w: "+format, append([]any{store.ErrDamaged}, args...)...)})
	}
	if len(p.format) != 4 || binary.LittleEndian.Uint32(p.format) != partVersion {
		note("format mark %x", p.format)
	}
	if err := checkPart(p.dayVal, p.number, out.Part); err != nil {
		out.Findings = append(out.Findings, Finding{Path: out.Path, Block: -1, Err: err})
	}
	if st, err := decodeState(p.state); err == nil {
		for _, kv := range p.hosts {
			if h, err := decodeHost(kv.Key, kv.Value); err == nil {
				st.Hosts = append(st.Hosts, h)
			}
		}
		out.State = st
		if n := len(p.groups); n > 0 && p.groups[n-1].id > st.ID {
			note("group %d, the last batch is %d", p.groups[n-1].id, st.ID)
		}
	}
}

// groups verifies the groups, several at once.
func (v *Verifier) groups(ctx context.Context, r *rawFile, list []rawGroup, out *PartReport) error {
	var mu sync.Mutex // guards out and err
	var first error
	next := make(chan *rawGroup)
	var wg sync.WaitGroup
	for range min(v.workers, len(list)) {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for g := range next {
				one, err := v.group(r, g)
				mu.Lock()
				out.add(one)
				if err != nil && first == nil {
					first = err
				}
				mu.Unlock()
			}
		}()
	}
	for i := range list {
		if ctx.Err() != nil {
			break
		}
		next <- &list[i]
	}
	close(next)
	wg.Wait()
	return errors.Join(first, ctx.Err())
}

func (out *PartReport) add(o *PartReport) {
	out.Groups += o.Groups
	out.Blocks += o.Blocks
	out.Events += o.Events
	out.Records += o.Records
	out.RawBytes += o.RawBytes
	out.Said += o.Said
	for name, h := range o.Hosts {
		sum := out.Hosts[name]
		sum.Events, sum.Records, sum.Bytes = sum.Events+h.Events, sum.Records+h.Records, sum.Bytes+h.Bytes
		out.Hosts[name] = sum
	}
	out.Findings = append(out.Findings, o.Findings...)
}

// group verifies one group and compares it with the catalogue.
func (v *Verifier) group(r *rawFile, g *rawGroup) (*PartReport, error) {
	out := &PartReport{Groups: 1, Said: g.sum.Events}
	note := func(f Finding) {
		f.Path, f.Group = r.path, g.id
		out.Findings = append(out.Findings, f)
	}
	if g.at.size == 0 {
		note(Finding{Block: -1, Events: g.sum.Events, MinMs: g.sum.FirstMs, MaxMs: g.sum.MaxMs,
			Err: fmt.Errorf("%w: it is in the catalogue, but its bytes are not to be found", store.ErrDamaged)})
		return out, nil
	}
	b := make([]byte, g.at.size)
	if _, err := r.f.ReadAt(b, g.at.off); err != nil {
		note(Finding{Offset: g.at.off, Block: -1, Events: g.sum.Events, Err: fmt.Errorf("%w: read it: %w", store.ErrDamaged, err)})
		return out, nil
	}
	if v.Progress != nil {
		v.Progress(g.at.size)
	}
	x := v.codec.Verify(b)
	out.Blocks, out.Events, out.Records, out.RawBytes, out.Hosts = x.Blocks, x.Events, x.Records, x.Bytes, x.Hosts
	lost := uint64(0)
	for _, f := range x.Findings {
		lost += f.Events
	}
	for i, f := range x.Findings {
		if i == 0 && g.said && x.Events == 0 && lost < g.sum.Events {
			// Nothing could be read, also not how much it is: the catalogue says it.
			f.Events, f.MinMs, f.MaxMs = g.sum.Events-lost, g.sum.FirstMs, g.sum.MaxMs
		}
		if !errors.Is(f.Err, store.ErrDamaged) {
			f.Err = fmt.Errorf("%w: %w", store.ErrDamaged, f.Err)
		}
		note(Finding{Offset: g.at.off + f.Offset, Block: f.Block, Host: f.Host, Events: f.Events, MinMs: f.MinMs, MaxMs: f.MaxMs, Err: f.Err})
	}
	switch {
	case !g.said:
		out.Said = x.Events
		note(Finding{Offset: g.at.off, Block: -1, Events: x.Events, Err: fmt.Errorf("%w: it is not in the catalogue, so searches do not see it", store.ErrDamaged)})
	case x.Summary != (group.Summary{}) && x.Summary != g.sum:
		at := g.from // of the two, the group has checksums
		if len(x.Findings) > 0 {
			at = g.at.off
		} else {
			out.Said = x.Events // no more than that was ever there
		}
		note(Finding{Offset: at, Block: -1, Err: fmt.Errorf("%w: the catalogue says %+v, the group at offset %d %+v", store.ErrDamaged, g.sum, g.at.off, x.Summary)})
	}
	return out, nil
}

// Senders verifies the file of resend detection's state; check judges its
// contents. A file that is not there is as it should be in a new store.
func (v *Verifier) Senders(dir string, check func([]store.KV) error) (id seglog.ID, _ []Finding, err error) {
	path := filepath.Join(dir, sendersName)
	r, err := openRaw(path)
	if err != nil {
		return id, nil, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	out, err := r.senders(false)
	found := out.found
	if errors.Is(err, store.ErrDamaged) {
		return out.ID, append(found, Finding{Path: path, Block: -1, Err: err}), nil
	}
	if err != nil {
		return id, nil, fmt.Errorf("%s: %w", path, err)
	}
	if err := check(out.kvs); err != nil {
		found = append(found, Finding{Path: path, Block: -1, Err: fmt.Errorf("%w: %w", store.ErrDamaged, err)})
	}
	if v.Progress != nil {
		v.Progress(r.size)
	}
	return out.ID, found, nil
}

// rawSenders is resend detection's state at one moment.
type rawSenders struct {
	ID    seglog.ID // of the store
	kvs   []store.KV
	found []Finding
}

// senders reads the keys and values of resend detection's state at one moment.
func (r *rawFile) senders(quick bool) (out *rawSenders, err error) {
	out = &rawSenders{}
	err = r.attempt(func() error {
		out = &rawSenders{}
		r.note = func(off int64, err error) {
			out.found = append(out.found, Finding{Path: r.path, Offset: off, Block: -1, Err: err})
		}
		if err := r.loadMeta(r.note); err != nil {
			return err
		}
		summed := false
		seen := 0
		r.walk(r.meta.root, func(e *elem) {
			switch string(e.key) {
			case string(bktMeta):
				seen++
				r.sub(e, func(e *elem) {
					if string(e.key) == string(keyStore) {
						var err error
						if out.ID, err = decodeID(e.value); err != nil {
							r.note(e.from(), err)
						}
						return
					}
					if string(e.key) != string(keyFormat) || len(e.value) != 4 {
						r.damaged(e.at, "page %d: mark %.40q, %x", e.page, e.key, e.value)
						return
					}
					format := binary.LittleEndian.Uint32(e.value)
					if format == 0 || format > sendersSummed {
						r.damaged(e.from(), "format version %d, this program reads %d", format, sendersSummed)
					}
					summed = format >= sendersSummed
				})
			case string(bktSenders):
				seen++
				r.sub(e, func(e *elem) {
					value := e.value
					if summed {
						var err error
						if value, err = cutSum(e.key, value); err != nil {
							r.note(e.from(), fmt.Errorf("state of sender %.40x: %w", e.key, err))
							return
						}
					}
					out.kvs = append(out.kvs, store.KV{Key: e.key, Value: value})
				})
			default:
				r.damaged(e.at, "page %d: unknown bucket %.40q", e.page, e.key)
			}
		})
		if seen != 2 {
			r.damaged(0, "its buckets are not there")
		}
		if !quick {
			r.free()
		}
		return nil
	})
	return out, err
}
