package raw

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/layout"
	"github.com/auditfleet/auditfleet/collector/internal/store/group"
	"github.com/auditfleet/auditfleet/pkg/seglog"
)

// PartReport is what a partition holds and what is wrong with it.
type PartReport struct {
	Path string
	store.Part
	Size       int64 // of the file
	Groups     int
	ID         seglog.ID // of the store; zero: the file does not say it
	FirstID    uint64    // of the first batch with events; 0: there is none
	Blocks     int       // readable, as all that follows
	Events     uint64    // less than Catalogued where events cannot be read
	Records    uint64
	RawBytes   uint64
	Catalogued uint64 // events by the catalogue
	Hosts      map[string]group.HostSum
	Sums       map[uint64]group.Sum // of the bytes of each group that could be read, by ID
	// Compacted is compaction's mark, nil where it did not make the partition. Then IDs has those of all groups, ascending, which are no batches', and
	// Batches how many events there are of each batch, as far as that can be read.
	Compacted *layout.Compacted
	IDs       []uint64
	Batches   map[uint64]uint64
	Last      uint64 // the last batch by its own word
	// State is the writer's place when the file was last written, with the hosts that it
	// knew then; nil when it cannot be read.
	State    *store.State
	Import   string // the import that it is of: its State has an ID only
	Findings []Finding
}

// Verifier reads whole files of a store and finds what is wrong with them. It takes no lock
// and changes nothing, so it may run beside a server.
type Verifier struct {
	codec   *group.Codec
	workers int
	// Progress, when not nil, is called with the bytes read since its last call, by several
	// goroutines at once. It is set before the first use.
	Progress func(bytes int64)
}

// NewVerifier makes a verifier that uses so many goroutines, at least one. The caller closes
// it.
func NewVerifier(workers int) (*Verifier, error) {
	c, err := group.NewCodec(workers)
	if err != nil {
		return nil, err
	}
	return &Verifier{codec: c, workers: max(workers, 1)}, nil
}

// Close releases the verifier's buffers.
func (v *Verifier) Close() error { return v.codec.Close() }

// Partition verifies a partition: its pages, the list of free ones, its marks, the catalogue,
// and of each group every checksum, event and dictionary. Whatever is wrong is a finding; an
// error means that the file could not be read at all, or that ctx is done.
func (v *Verifier) Partition(ctx context.Context, path string, part store.Part) (_ *PartReport, err error) {
	p, err := Open(path, part, true)
	if p == nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	out := &PartReport{Path: path, Part: part, Hosts: map[string]group.HostSum{}, Sums: map[uint64]group.Sum{}, Batches: map[uint64]uint64{}, Size: p.Size}
	if errors.Is(err, store.ErrDamaged) {
		out.Findings = append(out.Findings, Finding{Path: path, Block: -1, Err: err})
		return out, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	out.Findings = p.Findings
	out.ID, out.Compacted = p.ID, p.Compacted
	out.marks(p)
	filter := out.filter(p)
	for i := range p.Groups {
		if first, _ := p.Groups[i].Batches(); out.FirstID == 0 || first < out.FirstID {
			out.FirstID = first
		}
		if p.Compacted != nil {
			out.IDs = append(out.IDs, p.Groups[i].ID)
		}
	}
	if err := v.groups(ctx, p, filter, out); err != nil {
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

// marks checks the partition's own marks, and sets State.
func (out *PartReport) marks(p *Partition) {
	wrong := func(format string, args ...any) {
		out.Findings = append(out.Findings, Finding{Path: out.Path, Block: -1, Err: fmt.Errorf("%w: "+format, append([]any{store.ErrDamaged}, args...)...)})
	}
	if layout.CheckFormat(p.format) != nil {
		wrong("format mark %x", p.format)
	}
	if err := layout.CheckPart(p.day, p.number, out.Part); err != nil {
		out.Findings = append(out.Findings, Finding{Path: out.Path, Block: -1, Err: err})
	}
	if p.Import != "" {
		out.Import, out.State, out.Last = p.Import, &store.State{ID: p.LastImported()}, p.LastImported()
		return
	}
	if st, err := layout.DecodeState(p.State); err == nil {
		for _, kv := range p.Hosts {
			if h, err := layout.DecodeHost(kv.Key, kv.Value); err == nil {
				st.Hosts = append(st.Hosts, h)
			}
		}
		out.State, out.Last = st, st.ID
		if n := len(p.Groups); n > 0 && p.Groups[n-1].ID > st.ID && p.Compacted == nil {
			wrong("group %d, the last batch is %d", p.Groups[n-1].ID, st.ID)
		}
	}
	c := p.Compacted
	if c == nil {
		return
	}
	out.Last = max(out.Last, c.Last)
	for i := range p.Groups {
		if first, last := p.Groups[i].Batches(); first < c.First || last > c.Last {
			wrong("group %d has batches %d to %d, and it was made of batches %d to %d", p.Groups[i].ID, first, last, c.First, c.Last)
		}
	}
}

// filter checks the partition's filter, and returns it; nil where there is none that can be used.
func (out *PartReport) filter(p *Partition) *group.Filter {
	b, err := p.filterBytes()
	if b == nil && err == nil {
		return nil
	}
	var f *group.Filter
	if err == nil {
		if f, err = group.OpenFilter(b); err == nil {
			err = f.Check()
		}
	}
	if err != nil {
		out.Findings = append(out.Findings, Finding{Path: out.Path, Offset: p.Filter.Off, Block: -1, Err: fmt.Errorf("%w: %w", store.ErrDamaged, err)})
		return nil
	}
	return f
}

// groups verifies the groups, several at once, and adds them up in out.
func (v *Verifier) groups(ctx context.Context, p *Partition, filter *group.Filter, out *PartReport) error {
	var mu sync.Mutex // guards out
	// Each group is verified into a report of its own, which is then added under mu.
	next := make(chan *Group)
	var wg sync.WaitGroup
	for range min(v.workers, len(p.Groups)) {
		wg.Go(func() {
			for g := range next {
				one := v.group(p, g, filter)
				mu.Lock()
				out.add(one)
				mu.Unlock()
			}
		})
	}
	for i := range p.Groups {
		if ctx.Err() != nil {
			break
		}
		next <- &p.Groups[i]
	}
	close(next)
	wg.Wait()
	return ctx.Err()
}

// add adds the report of one group.
func (out *PartReport) add(o *PartReport) {
	out.Groups += o.Groups
	out.Blocks += o.Blocks
	out.Events += o.Events
	out.Records += o.Records
	out.RawBytes += o.RawBytes
	out.Catalogued += o.Catalogued
	for name, h := range o.Hosts {
		sum := out.Hosts[name]
		sum.Events, sum.Records, sum.Bytes = sum.Events+h.Events, sum.Records+h.Records, sum.Bytes+h.Bytes
		out.Hosts[name] = sum
	}
	maps.Copy(out.Sums, o.Sums)
	for batch, n := range o.Batches {
		out.Batches[batch] += n
	}
	out.Findings = append(out.Findings, o.Findings...)
}

// group verifies one group and compares it with its catalogue entry. Of a group that cannot
// be read at all, the entry says how many events are lost.
func (v *Verifier) group(p *Partition, g *Group, filter *group.Filter) *PartReport {
	out := &PartReport{Groups: 1, Catalogued: g.Sum.Events, Sums: map[uint64]group.Sum{}, Batches: map[uint64]uint64{}}
	wrong := func(f Finding) {
		f.Path, f.Group = p.Path, g.ID
		out.Findings = append(out.Findings, f)
	}
	b, err := p.Bytes(g)
	switch {
	case err != nil:
		wrong(Finding{Offset: g.At.Off, Block: -1, Events: g.Sum.Events, Err: fmt.Errorf("%w: read it: %w", store.ErrDamaged, err)})
		return out
	case b == nil:
		wrong(Finding{Block: -1, Events: g.Sum.Events, MinMs: g.Sum.FirstMs, MaxMs: g.Sum.MaxMs,
			Err: fmt.Errorf("%w: it is in the catalogue, but its bytes are not to be found", store.ErrDamaged)})
		return out
	}
	if v.Progress != nil {
		v.Progress(g.At.Size)
	}
	out.Sums[g.ID] = v.codec.Sum(b, p.Compacted == nil, true)
	if p.Compacted != nil {
		if x, err := v.codec.Open(b); err == nil {
			_ = x.CountBatches(g.ID, out.Batches) // Verify finds what is wrong with them
			if filter != nil {
				if err := filter.Covers(x); err != nil {
					wrong(Finding{Offset: p.Filter.Off, Block: -1, Err: err})
				}
			}
		}
	}
	x := v.codec.Verify(b)
	out.Blocks, out.Events, out.Records, out.RawBytes, out.Hosts = x.Blocks, x.Events, x.Records, x.Bytes, x.Hosts
	lost := uint64(0)
	for _, f := range x.Findings {
		lost += f.Events
	}
	for i, f := range x.Findings {
		if i == 0 && g.Listed && x.Events == 0 && lost < g.Sum.Events {
			// Nothing could be read, not even how many events there are: the catalogue
			// has their number.
			f.Events, f.MinMs, f.MaxMs = g.Sum.Events-lost, g.Sum.FirstMs, g.Sum.MaxMs
		}
		if !errors.Is(f.Err, store.ErrDamaged) {
			f.Err = fmt.Errorf("%w: %w", store.ErrDamaged, f.Err)
		}
		wrong(Finding{Offset: g.At.Off + f.Offset, Block: f.Block, Host: f.Host, Events: f.Events, MinMs: f.MinMs, MaxMs: f.MaxMs, Err: f.Err})
	}
	switch {
	case !g.Listed:
		out.Catalogued = x.Events
		wrong(Finding{Offset: g.At.Off, Block: -1, Events: x.Events, Err: fmt.Errorf("%w: it is not in the catalogue, so searches do not see it", store.ErrDamaged)})
	case x.Summary != (group.Summary{}) && x.Summary != g.Sum:
		at := g.from // a sound group is right, since it has checksums: the catalogue is wrong
		if len(x.Findings) > 0 {
			at = g.At.Off
		} else {
			out.Catalogued = x.Events // no more than that was ever there
		}
		wrong(Finding{Offset: at, Block: -1, Err: fmt.Errorf("%w: the catalogue says %+v, the group at offset %d %+v", store.ErrDamaged, g.Sum, g.At.Off, x.Summary)})
	}
	return out
}
