package lines

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sys/unix"

	"github.com/auditfleet/auditfleet/pkg/logscan"
)

// Config configures Open. Either Path or Stream is required.
type Config struct {
	Path   string   // a file
	Follow bool     // the file goes on, through rotation
	Stream *os.File // a pipe, socket or file that is read once; Close leaves it open
	// Bad is told of a part of the input that is no record, and Gap that a followed file was
	// rotated away before it was read. Both run in Run's goroutine.
	Bad func(offset int64, why string)
	Gap func()

	Logger hclog.Logger
}

// Input is an open source of lines.
type Input struct {
	cfg    Config
	file   *os.File     // nil: the file is followed, and opened by Run
	packed io.Reader    // what is compressed in file; nil: nothing is
	damage func() error // of packed, once it is read
	chunks chan *Chunk
	reader *reader
}

// Open opens the source. Its errors name the flag --source. The caller must Close it.
func Open(cfg Config) (*Input, error) {
	in := &Input{cfg: cfg, chunks: make(chan *Chunk)}
	in.reader = newReader(in.chunks, cfg.Bad)
	if cfg.Stream != nil {
		in.file = cfg.Stream
		return in, nil
	}
	info, err := os.Stat(cfg.Path)
	if err != nil {
		return nil, fmt.Errorf("--source: %w (it is one of kernel, multicast, stdin, or a file)", err)
	}
	if info.IsDir() {
		return nil, fmt.Errorf("--source %s: is a folder", cfg.Path)
	}
	file, err := os.Open(cfg.Path)
	if err != nil {
		return nil, fmt.Errorf("--source: %w", err)
	}
	packed, isPacked, damage, err := logscan.Unpack(file)
	switch {
	case err != nil:
	case cfg.Follow && isPacked:
		err = errors.Join(errors.New("is compressed and can't be followed: give the log itself, or leave out --follow"), damage())
	case cfg.Follow:
		return in, file.Close() // Run looks for the file that was read last
	case isPacked:
		in.packed, in.damage = packed, damage
	}
	if err != nil {
		return nil, fmt.Errorf("--source %s: %w", cfg.Path, errors.Join(err, file.Close()))
	}
	in.file = file
	return in, nil
}

// Run reads to the end of the source and returns io.EOF, or until ctx ends. A followed log
// is read from the position from on and has no end. After soft has ended, a stream counts
// as ended, too, when nothing comes for a moment (quietEnd). A compressed stream is
// unpacked. Run is called once, and
// closes Chunks when it returns.
func (in *Input) Run(ctx, soft context.Context, from Position) error {
	defer close(in.chunks)
	switch {
	case in.file == nil:
		f := &follower{path: in.cfg.Path, from: from, r: in.reader, logger: in.cfg.Logger, gap: in.cfg.Gap}
		return f.run(ctx)
	case in.packed != nil:
		return in.read(ctx, in.packed, in.damage)
	}
	return in.readStream(ctx, soft)
}

// Chunks returns the channel on which Run hands on chunks. The consumer gives each back
// with Release.
func (in *Input) Chunks() <-chan *Chunk { return in.chunks }

// Release gives a chunk back to the reader; the consumer must not use it, or the lines in
// it, afterwards.
func (in *Input) Release(c *Chunk) { in.reader.free <- c }

// read reads a source to its end: io.EOF. What follows the first damage of a compressed one
// is missing, which is an error once all before it was handed on.
func (in *Input) read(ctx context.Context, src io.Reader, damage func() error) error {
	for {
		if err := in.reader.acquire(ctx); err != nil {
			return errors.Join(err, damage())
		}
		n, err := src.Read(in.reader.room())
		atEnd := errors.Is(err, io.EOF)
		if err != nil && !atEnd {
			_ = damage() // there is an error
			return err
		}
		if err := in.reader.filled(ctx, n, atEnd, Position{}); err != nil {
			return errors.Join(err, damage())
		}
		if atEnd {
			if err := damage(); err != nil {
				return fmt.Errorf("--source: %w", err)
			}
			return io.EOF
		}
	}
}

// HungUp reports whether the writer of the stream has closed its end. What it wrote before
// may still be unread. Any goroutine may call it.
func (in *Input) HungUp() bool {
	if in.file == nil {
		return false
	}
	fds := []unix.PollFd{{Fd: int32(in.file.Fd())}}
	n, err := unix.Poll(fds, 0)
	return err == nil && n > 0 && fds[0].Revents&(unix.POLLHUP|unix.POLLERR|unix.POLLNVAL) != 0
}

// Progress returns how much of a file is read, in percent; ok is false for a source without
// a size. Any goroutine may call it until Close.
func (in *Input) Progress() (percent int64, ok bool) {
	if in.file == nil {
		return 0, false
	}
	info, err := in.file.Stat()
	if err != nil || info.Size() <= 0 {
		return 0, false
	}
	at, err := in.file.Seek(0, io.SeekCurrent)
	return at * 100 / info.Size(), err == nil
}

// Close closes the file that Open opened, if any. The caller calls it after Run has
// returned, or without a Run. A second call is allowed.
func (in *Input) Close() error {
	if in.file == nil || in.file == in.cfg.Stream {
		return nil
	}
	if err := in.file.Close(); !errors.Is(err, os.ErrClosed) {
		return err
	}
	return nil
}
