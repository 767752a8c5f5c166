package importer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/head"
	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/importing"
	"github.com/auditfleet/auditfleet/pkg/oldlogs"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// Target is what records are imported into: a head.
type Target interface {
	// Scan finds what is stored, in memory too.
	Scan(ctx context.Context, q *query.Query, fn func(*event.Event) error) error
	// ImportName returns the name under which events of a node are stored, "" where it is not told apart from others, and
	// those of hosts whose names differ from that in case only. A name is kept for the node until LeaveImportNames.
	ImportName(node string) (name string, alike []string)
	// LeaveImportNames says that names which were given out, and are of no batch, are not used.
	LeaveImportNames()
	// Import stores a batch and returns its number once it is durable.
	Import(ctx context.Context, in head.Imported) (batch uint64, err error)
	// Imports is the store's half.
	Imports() (store.Importer, error)
}

// Config of a Session.
type Config struct {
	Name string // of the import
	By   string // who imports, for the list
	// Host is the host whose records alone are imported: all are kept under its name, whatever they claim. "": records are
	// kept under the names that they claim.
	Host   string
	Target Target
	Now    func() time.Time
	// TableBytes is the memory at which a batch is stored; DefaultTable when 0. Two may exist at a time.
	TableBytes int64
	// Dry says that nothing is stored: the session finds out what would be.
	Dry bool
	// Summaries are those of the store that others use, too; nil: nobody does.
	Summaries *Summaries
	// Room returns an error where the disk has no room for more; nil: nobody looks.
	Room func() error

	compareBytes int // tests'
}

// DefaultTable is Config.TableBytes where it is 0: some 25 MB of records, as the head has it.
const DefaultTable = 32 << 20

const (
	// compareBytes is the text of how many records is compared with the store at a time.
	compareBytes = 8 << 20
	// mostOpen is how much text of open events a note has; beyond it they are ended.
	mostOpen = 256 << 10
	// mostOpenEvents are open events of a host.
	mostOpenEvents = 4096
	// chunkBytes is what a chunk takes beside its text.
	chunkBytes = 256
)

// mostFiles is how many files a host may import at once, and have imported: a note has some words of each, and each import is told them.
const mostFiles = 100_000

// ErrFiles is returned by a session of a host that has more files.
var ErrFiles = errors.New("there are more files than a host may import: give fewer paths, or wait until earlier imports have gone to the days of their events")

// Session is one run of an import, beside the store. One goroutine uses it.
type Session struct {
	cfg    Config
	store  store.Importer
	memory *memory

	hosts map[string]*host // by node
	pool  event.Pool
	keys  keyer

	table  *store.Table
	counts map[string]head.ImportCount
	gens   []*generation   // oldest first; the last one is the table's
	own    map[uint64]bool // batches stored since the present file was begun
	latest uint64          // the latest one that is stored
	flying chan stored     // of the batch that is being stored; nil: none

	file     uint32 // the present one's number, from 1
	cur      importing.Known
	since    uint64 // batches up to it are compared with the present file, own ones too
	from     int64  // records of it before that are stored, and come again
	consumed consumed
	chunks   []chunk                    // to be compared
	size     int                        // of their text
	news     note                       // for the next batch
	ended    map[uint32]importing.Known // by number: files whose end was read, and that have open records
	fed      map[*open]bool
	reopen   []open        // to be taken up
	number   atomic.Uint64 // of the batch that is being stored
	lines    []line        // used again, as tags is
	tags     []uint64

	sum  importing.Sum
	cuts importing.Sum // what sum was when the last batch was cut
	kept importing.Sum // what it was of the last one that is durable
	err  error         // that ended it
}

// host is one under whose name records are stored.
type host struct {
	name  string
	raw   []byte
	alike []string // names of other hosts that differ from it in case only
	asm   *event.Assembler
}

type stored struct {
	batch uint64
	err   error
}

// chunk is some lines of the present file.
type chunk struct {
	text    []byte
	end     int64
	content oldlogs.Content
}

// Begin begins a session.
func Begin(ctx context.Context, cfg Config) (*Session, error) {
	if err := store.CheckImport(cfg.Name); err != nil {
		return nil, err
	}
	if cfg.TableBytes <= 0 {
		cfg.TableBytes = DefaultTable
	}
	if cfg.compareBytes <= 0 {
		cfg.compareBytes = compareBytes
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Summaries == nil {
		cfg.Summaries = &Summaries{}
	}
	s := &Session{cfg: cfg, hosts: map[string]*host{}, counts: map[string]head.ImportCount{}, own: map[uint64]bool{}, table: store.NewTable(), fed: map[*open]bool{}, ended: map[uint32]importing.Known{}}
	s.gens = []*generation{newGeneration(0)}
	var err error
	if s.store, err = cfg.Target.Imports(); err != nil {
		return nil, err
	}
	if s.memory, err = recall(ctx, s.store, cfg.Summaries, cfg.Name, cfg.Host); err != nil {
		return nil, fmt.Errorf("read what earlier imports have: %w", err)
	}
	return s, nil
}

// Known returns the files that the store knows.
func (s *Session) Known(context.Context) ([]importing.Known, error) {
	list := slices.Clone(s.memory.done)
	for _, b := range s.memory.begun {
		list = append(list, b.Known)
	}
	return list, nil
}

// File implements importing.Sink.
func (s *Session) File(_ context.Context, f importing.FileBegin) error {
	if s.err != nil {
		return s.err
	}
	if s.file++; s.cfg.Host != "" {
		if s.file > mostFiles {
			s.fail(fmt.Errorf("%w: %d", ErrFiles, mostFiles))
			return s.err
		}
		if _, ok := f.At.Content(); !ok {
			f.At.Head, f.At.All = nil, nil
		}
		f.Node, f.At.Node = s.cfg.Host, s.cfg.Host
	}
	s.cur = importing.Known{Node: f.Node}
	if f.From > 0 {
		s.cur = f.At
		s.cur.Done = false
	}
	s.from, s.consumed = f.From, consumed{}
	kept := s.gens[:0]
	for _, g := range s.gens {
		if g.batch == 0 {
			kept = append(kept, g)
		}
	}
	s.since = s.latest
	clear(s.own)
	s.gens = kept
	s.sum.Files++
	s.skip(f.Known)
	s.resume(f)
	return nil
}

// resume remembers the open records of the note that says how far a file was read, to be taken up with what
// follows in it.
func (s *Session) resume(f importing.FileBegin) {
	c, ok := f.At.Content()
	if f.From == 0 || !ok {
		return
	}
	b, ok := s.memory.begun[contentKey{f.Node, c}]
	if !ok || len(b.open) == 0 || s.fed[&b.open[0]] {
		return
	}
	s.fed[&b.open[0]] = true
	for _, o := range b.open {
		if o.Host == "" { // one of those that are not told apart
			o.Host = f.Node
		}
		s.reopen = append(s.reopen, o)
	}
}

// takeUp takes the open records up. None is stored, but for those that have come otherwise since: then the store
// has as many like them as the file had up to here.
func (s *Session) takeUp(ctx context.Context) error {
	if len(s.reopen) == 0 {
		return nil
	}
	lines := make([]line, 0, len(s.reopen))
	for i := range s.reopen {
		if l := s.line(s.reopen[i].Raw, s.reopen[i].Host); l.host != nil {
			lines = append(lines, l)
		}
	}
	s.reopen = nil
	if s.err != nil {
		return s.err
	}
	s.skip(-int64(len(lines))) // they are counted now
	return s.take(ctx, lines, func(l *line, stored uint32) bool { return stored < max(1, s.consumed.of(l.key)) })
}

func (s *Session) skip(n int64) { s.sum.Records, s.sum.Skipped = s.sum.Records+n, s.sum.Skipped+n }

// Chunk implements importing.Sink.
func (s *Session) Chunk(ctx context.Context, text []byte, end int64, at oldlogs.Content) error {
	if s.err != nil {
		return s.err
	}
	if len(s.chunks) > 0 && s.chunks[0].end <= s.from && end > s.from {
		if err := s.compare(ctx); err != nil {
			return err
		}
	}
	s.chunks = append(s.chunks, chunk{text, end, at})
	if s.size += len(text) + chunkBytes; s.size < s.cfg.compareBytes {
		return nil
	}
	return s.compare(ctx)
}

// EndFile implements importing.Sink.
func (s *Session) EndFile(ctx context.Context, at oldlogs.Content, whole bool) error {
	if err := s.compare(ctx); err != nil {
		return err
	}
	if err := s.takeUp(ctx); err != nil {
		return err
	}
	if whole {
		s.ended[s.file] = s.cur.At(at, at.Size)
		s.news.Read++
	}
	s.cur = importing.Known{}
	s.settle()
	return nil
}

// settle notes which of the files that were read have no open records any more.
func (s *Session) settle() {
	open := map[uint64]bool{}
	for _, h := range s.hosts {
		if h.asm.Len() > 0 {
			s.tags = h.asm.OpenTags(s.tags[:0])
			for _, t := range s.tags {
				open[t] = true
			}
		}
	}
	for n, k := range s.ended {
		if open[uint64(n)] {
			continue
		}
		delete(s.ended, n)
		if k.Done = true; k.Elsewhere == 0 {
			s.news.Files = append(s.news.Files, k)
		}
	}
}

// Skip implements importing.Sink.
func (s *Session) Skip(_ context.Context, records int64) error {
	s.sum.Files++
	s.skip(records)
	return s.err
}

// End implements importing.Sink: what is still open is complete.
func (s *Session) End(ctx context.Context) (importing.Sum, error) {
	if s.err == nil {
		s.finish()
		s.news.Ended = true
		if s.memory.unfinished || s.latest > 0 || s.flying != nil || s.table.Stats().Events > 0 || len(s.news.Files) > 0 { // else there is nothing to remember
			s.fail(s.cut(ctx))
		}
	}
	return s.over(ctx)
}

// finish ends all open events: their files are read to their ends.
func (s *Session) finish() {
	for _, h := range s.hosts {
		h.asm.Flush()
	}
	s.settle()
}

// Interrupt stores what was read so far, with how far that is. The session can't be used any more.
func (s *Session) Interrupt(ctx context.Context) (importing.Sum, error) {
	if s.err == nil {
		err := s.compare(ctx)
		if err == nil && !s.idle() {
			err = s.cut(ctx)
		}
		s.fail(err)
	}
	return s.over(ctx)
}

// idle reports whether nothing was done of which a note would have to say something.
func (s *Session) idle() bool {
	return s.latest == 0 && s.flying == nil && s.table.Stats().Events == 0 && len(s.news.Files) == 0 && s.cur.Size == 0 && len(s.ended) == 0 && s.opened() == 0
}

// over waits for what is being stored, and lets go of the import's part. What was read and not stored yet is read
// again by the next session.
func (s *Session) over(ctx context.Context) (importing.Sum, error) {
	s.fail(s.landed(ctx))
	err, sum := s.err, s.sum
	if err != nil { // the rest is lost, and read again
		sum = s.kept
	}
	s.fail(errOver)
	s.cfg.Target.LeaveImportNames()
	if !s.cfg.Dry {
		err = errors.Join(err, s.store.EndImport(ctx, s.cfg.Name))
	}
	return sum, err
}

// errOver is returned by a session that has ended.
var errOver = errors.New("the import has ended")

func (s *Session) fail(err error) {
	if s.err == nil {
		s.err = err
	}
}
