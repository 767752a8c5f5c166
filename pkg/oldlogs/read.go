package oldlogs

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"sync/atomic"

	"github.com/auditfleet/auditfleet/pkg/logscan"
	"github.com/auditfleet/auditfleet/pkg/record"
)

// readBytes is what is read at once, and the longest line that can be a record.
const readBytes = 256 << 10

// hashBytes is what is hashed at once.
const hashBytes = 32 << 10

// Entry is a record of a log. It is valid during the call that gets it.
type Entry struct {
	File   *File
	Node   []byte // the host: the record's own, or the file's; empty where neither says one
	Record *record.Record
	End    int64 // how far the content of the file is read with this record

	sums *summer
	hash *bufio.Writer // into sums: to hash each line alone would take longer than to read it
}

// Content is what all that was read of the file so far is known by: up to End. By it the file is known
// again where it has grown since (File.Begins).
func (e *Entry) Content() Content {
	_ = e.hash.Flush() // a summer returns no error
	return e.sums.content()
}

// Summary is what was read of a file.
type Summary struct {
	File    *File
	Content Content // of all that could be read, but for a last line that is not taken
	Records int64   // also those before ReadConfig.From
	Other   int64   // lines that are no records
	// OtherLine is the number of the first of these, from 1; 0: there is none.
	OtherLine int64
	TooLong   int64 // lines of more than 256 KiB, which are passed over
	Torn      Torn  // what became of a last line that has no newline; "": there is none, or it is in Damage
	// First and Last are the least and the greatest time of a record, in milliseconds
	// since 1970.
	First, Last int64
	// Damage is why the file was not read to its end, nil if it was. What stands before it
	// was read.
	Damage error
}

// ReadConfig says how to read. All of it may be nil.
type ReadConfig struct {
	// From is asked once a file before it is read, how far it was read before: Record is called for what follows
	// only. A negative end leaves the file out. Its error ends Read.
	From func(f *File) (end int64, err error)
	// Record gets each record. Its error ends Read.
	Record func(e *Entry) error
	// Done is told of each file that was read. Its error ends Read.
	Done func(s *Summary) error
}

// Read reads the logs, the oldest first, but for those that are the same as another. What
// it cannot read of a file is said in the file's Summary. It returns the error of ctx or of
// the functions of cfg. It may be called once.
func (s *Set) Read(ctx context.Context, cfg ReadConfig) error {
	b := bufio.NewReaderSize(nil, readBytes)
	for _, f := range s.Files {
		if f.Same != "" {
			continue
		}
		before, from := s.done.Load(), int64(0)
		if cfg.From != nil {
			var err error
			if from, err = cfg.From(f); err != nil {
				return err
			}
		}
		if from < 0 {
			s.done.Store(before + f.Size)
			continue
		}
		sum, err := f.read(ctx, b, from, cfg, &s.done)
		if err != nil {
			return err
		}
		s.done.Store(before + f.Size) // a log may have grown, or not be there any more
		if cfg.Done != nil {
			if err := cfg.Done(sum); err != nil {
				return err
			}
		}
	}
	return nil
}

// Progress returns how many bytes on disk are read, and how many there are in all. Any
// goroutine may call it.
func (s *Set) Progress() (done, all int64) {
	all = s.all.Load()
	return min(s.done.Load(), all), all
}

// read returns the error of ctx and of cfg only.
func (f *File) read(ctx context.Context, b *bufio.Reader, from int64, cfg ReadConfig, done *atomic.Int64) (*Summary, error) {
	sum := &Summary{File: f}
	file, err := f.open()
	if err != nil {
		sum.Damage = fmt.Errorf("%s: %w", f.Path, err)
		return sum, nil
	}
	defer file.Close()
	src, damage := logscan.UnpackStream(counter{file, done}, f.Path)
	b.Reset(src)
	sums := &summer{head: sha256.New(), all: sha256.New()}
	l := lineReader{b: b, sum: sum, entry: Entry{File: f, sums: sums, hash: bufio.NewWriterSize(sums, hashBytes)}, node: []byte(f.Node), from: from, record: cfg.Record}
	torn, err := l.run(ctx)
	l.failed = errors.Join(damage(), l.failed)
	if err == nil && len(torn) > 0 && l.failed == nil { // else the line may be whole behind the damage
		err = l.last(torn, f.Packed || settled(file))
	}
	sum.Damage, sum.Content = l.failed, l.entry.Content()
	return sum, err
}

// lineReader reads the lines of a log.
type lineReader struct {
	b      *bufio.Reader
	sum    *Summary
	entry  Entry
	node   []byte // the file's
	from   int64
	record func(e *Entry) error
	number int64 // of the line, from 1
	failed error // of reading the file
}

// run reads all lines but a last one that has no newline, which it returns: it is valid until the next read. It returns the error of
// ctx or of record.
func (l *lineReader) run(ctx context.Context) (torn []byte, err error) {
	l.entry.Record = &record.Record{}
	for l.number = 1; ; l.number++ {
		if l.number%1024 == 0 && ctx.Err() != nil {
			return nil, fmt.Errorf("read %s: %w", l.entry.File.Path, ctx.Err())
		}
		line, err := l.b.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			l.sum.TooLong++
			for errors.Is(err, bufio.ErrBufferFull) {
				if ctx.Err() != nil {
					return nil, fmt.Errorf("read %s: %w", l.entry.File.Path, ctx.Err())
				}
				l.pass(line)
				line, err = l.b.ReadSlice('\n')
			}
			l.pass(line)
			line = nil
		}
		switch {
		case err == nil && len(line) > 0:
			if err := l.line(line); err != nil {
				return nil, err
			}
		case err != nil && !errors.Is(err, io.EOF):
			l.failed = errors.Join(l.failed, fmt.Errorf("%s: read: %w", l.entry.File.Path, err))
		}
		if err != nil {
			return line, nil //nolint:nilerr // it is in l.failed
		}
	}
}

// pass counts bytes of the file that were read.
func (l *lineReader) pass(b []byte) {
	l.entry.End += int64(len(b))
	_, _ = l.entry.hash.Write(b)
}

func (l *lineReader) line(line []byte) error {
	l.pass(line)
	if i := logscan.PackedIn(line); i >= 0 && !l.entry.File.Packed && l.failed == nil {
		l.failed = fmt.Errorf("%s: compressed data begins at byte %d, behind plain text: it is not read: cut the file in two there", l.entry.File.Path, l.entry.End-int64(len(line)-i))
	}
	if len(bytes.TrimSuffix(line, []byte{'\n'})) == 0 {
		return nil
	}
	r := l.entry.Record
	if _ = r.Parse(line); !r.IsRecord() {
		if l.sum.Other++; l.sum.OtherLine == 0 {
			l.sum.OtherLine = l.number
		}
		return nil
	}
	l.sum.Records++
	if ms := r.Ms(); ms > 0 {
		if l.sum.First == 0 || ms < l.sum.First {
			l.sum.First = ms
		}
		l.sum.Last = max(l.sum.Last, ms)
	}
	if l.record == nil || l.entry.End <= l.from {
		return nil
	}
	if l.entry.Node = r.Node; len(r.Node) == 0 {
		l.entry.Node = l.node
	}
	return l.record(&l.entry)
}

// counter adds up what is read.
type counter struct {
	io.Reader
	done *atomic.Int64
}

func (c counter) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.done.Add(int64(n))
	return n, err
}

// summer computes a Content of what is written to it.
type summer struct {
	head, all hash.Hash
	size      int64
}

func (s *summer) Write(p []byte) (int, error) {
	if rest := headBytes - s.size; rest > 0 {
		s.head.Write(p[:min(rest, int64(len(p)))])
	}
	s.all.Write(p)
	s.size += int64(len(p))
	return len(p), nil
}

func (s *summer) content() Content {
	c := Content{Size: s.size}
	s.head.Sum(c.Head[:0])
	s.all.Sum(c.All[:0])
	return c
}
