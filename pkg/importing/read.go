package importing

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"github.com/auditfleet/auditfleet/pkg/oldlogs"
)

// chunkBytes is how much text is handed over at once.
const chunkBytes = 120 << 10 // less than a message from another machine may have

// Config of Read. All of it may be left out.
type Config struct {
	// Done is told of each file.
	Done func(Done)
	// Reread has files be read again of which the store knows all records, or the first ones: damage may have taken these.
	Reread bool
	// ChunkBytes is how much text is handed over at once.
	ChunkBytes int
}

// Read reads the logs and hands their records to the sink. After an error of ctx, what was read so far is stored.
func Read(ctx context.Context, set *oldlogs.Set, sink Sink, cfg Config) (Sum, error) {
	var known []Known
	if !cfg.Reread {
		var err error
		if known, err = sink.Known(ctx); err != nil {
			return Sum{}, err
		}
	}
	r := reader{ctx: ctx, sink: ahead(sink), done: cfg.Done, chunk: cmp.Or(cfg.ChunkBytes, chunkBytes), known: map[fileKey][]Known{}, records: map[string]int64{}}
	defer r.sink.wait()
	for _, k := range known {
		if c, ok := k.Content(); ok {
			key := fileKey{k.Node, c.Head}
			r.known[key] = append(r.known[key], k)
		}
	}
	err := set.Read(ctx, oldlogs.ReadConfig{From: r.from, Record: r.record, Done: r.end})
	if err != nil && ctx.Err() == nil {
		return brokenOff(ctx, r.sink, err)
	}
	if err != nil {
		err = nil
		r.ctx = context.WithoutCancel(ctx)
		if r.entry != nil { // also of the file that was being read
			err = r.flush(r.entry.Content())
		}
		sum, ierr := r.sink.Interrupt(r.ctx)
		return sum, errors.Join(ctx.Err(), err, ierr)
	}
	for _, f := range set.Files {
		if f.Same != "" {
			if err := r.sink.Skip(ctx, r.records[f.Same]); err != nil {
				return brokenOff(ctx, r.sink, err)
			}
		}
	}
	return r.sink.End(context.WithoutCancel(ctx))
}

type fileKey struct {
	node string
	head oldlogs.Sum
}

// reader is one run of Read.
type reader struct {
	ctx     context.Context
	sink    *readAhead
	done    func(Done)
	chunk   int
	known   map[fileKey][]Known
	records map[string]int64 // by path

	text    []byte
	entry   *oldlogs.Entry // of the last record in text
	end_    int64          // its End
	began   int64          // From of the present file
	unnamed int64
}

// from decides how far a file is known, before it is read.
func (r *reader) from(f *oldlogs.File) (int64, error) {
	list := slices.Clone(r.known[fileKey{f.Node, f.Head}])
	slices.SortStableFunc(list, func(a, b Known) int { return cmp.Or(cmp.Compare(b.Size, a.Size), cmp.Compare(b.End, a.End)) })
	contents := make([]oldlogs.Content, len(list))
	for i := range list {
		contents[i], _ = list[i].Content()
	}
	b := FileBegin{Node: f.Node}
	i, whole, err := f.Begins(r.ctx, contents)
	switch {
	case err != nil:
		return 0, err
	case i >= 0 && whole && list[i].Done:
		r.records[f.Path] = list[i].Records
		if r.done != nil {
			r.done(Done{Path: f.Path, Whole: list[i].Records})
		}
		return -1, r.sink.Skip(r.ctx, list[i].Records)
	case i >= 0:
		b.From, b.Known, b.At = list[i].End, list[i].Records, list[i]
	}
	r.began, r.unnamed, r.text = b.From, 0, nil
	return 0, r.sink.File(r.ctx, b)
}

// record adds a record to the present chunk.
func (r *reader) record(e *oldlogs.Entry) error {
	if len(e.Node) == 0 {
		r.unnamed++
		return nil
	}
	raw := e.Record.Raw
	if len(r.text) > 0 && (len(r.text)+len(raw)+1 > r.chunk || r.end_ <= r.began && e.End > r.began) {
		if err := r.flush(e.Content()); err != nil {
			return err
		}
	}
	if r.text == nil {
		r.text = make([]byte, 0, r.chunk)
	}
	r.text = append(append(r.text, raw...), '\n')
	r.entry, r.end_ = e, e.End
	return nil
}

// flush hands the present chunk over. at is of all that was read by then.
func (r *reader) flush(at oldlogs.Content) error {
	if len(r.text) == 0 {
		return nil
	}
	text := r.text
	r.text = nil
	return r.sink.Chunk(r.ctx, text, r.end_, at)
}

// end ends a file.
func (r *reader) end(s *oldlogs.Summary) error {
	if err := r.flush(s.Content); err != nil {
		return err
	}
	r.records[s.File.Path] = s.Records
	if r.done != nil {
		r.done(Done{Summary: s, Path: s.File.Path, Whole: -1, From: r.began, Unnamed: r.unnamed})
	}
	return r.sink.EndFile(r.ctx, s.Content, s.Damage == nil && r.unnamed == 0)
}
