package lines

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sys/unix"
)

// followPoll is how often the end of a followed file is looked at.
const followPoll = 250 * time.Millisecond

// follower reads a log file as it grows and is rotated: audit.log becomes
// audit.log.1, that audit.log.2 and so on, or the file is emptied in its place.
type follower struct {
	path   string
	from   Position // where to begin, the zero value: at the file's start
	r      *reader
	logger hclog.Logger
	gap    func() // told when files were rotated away before they were read
	head   uint64 // of the file that is read; 0 while it is not known
}

func statID(path string) (Position, int64, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return Position{}, 0, err
	}
	return Position{dev: st.Dev, ino: st.Ino}, st.Size, nil
}

func (f *follower) name(i int) string {
	if i == 0 {
		return f.path
	}
	return f.path + "." + strconv.Itoa(i)
}

// find returns the number of the file with that identity among the rotated ones,
// and the highest number there is.
func (f *follower) find(id Position) (at, highest int) {
	at = -1
	for i := 0; ; i++ {
		p, _, err := statID(f.name(i))
		if err != nil && i > 0 {
			return at, i - 1
		}
		if err == nil && p.dev == id.dev && p.ino == id.ino {
			at = i
		}
	}
}

// moved returns the number of the file that was read last, where it has the inode and the beginning
// that it had, and another device number; -1 when none has.
func (f *follower) moved(highest int) int {
	for i := 0; i <= highest && f.from.head != 0; i++ {
		p, size, err := statID(f.name(i))
		if err != nil || p.ino != f.from.ino || size < f.from.offset {
			continue
		}
		file, err := os.Open(f.name(i))
		if err != nil {
			continue
		}
		same := headOf(file) == f.from.head
		_ = file.Close() // only read
		if same {
			return i
		}
	}
	return -1
}

// run follows until ctx ends.
func (f *follower) run(ctx context.Context) error {
	at := 0
	var offset int64
	if f.from.ino != 0 {
		found, highest := f.find(f.from)
		if found < 0 {
			found = f.moved(highest)
		}
		if found < 0 {
			f.logger.Warn("the file that was read last is gone: beginning with the oldest there is", "source", f.path)
			f.gap()
			at = highest
		} else {
			at, offset = found, f.from.offset
		}
	}
	file, err := f.open(ctx, at)
	if err != nil {
		return err
	}
	for {
		id, err := f.readOne(ctx, file, offset)
		err = errors.Join(err, file.Close())
		if err != nil {
			return err
		}
		// That file is finished, as another has taken its place. Next is the one
		// that was begun after it.
		found, highest := f.find(id)
		switch {
		case found > 0:
			at = found - 1
		case found < 0:
			f.logger.Warn("a file was rotated away: reading goes on with the oldest there is", "source", f.path)
			f.gap()
			at = highest
		default:
			at = 0 // emptied in its place
		}
		if file, err = f.open(ctx, at); err != nil {
			return err
		}
		offset = 0
	}
}

// open waits for the file to be there.
func (f *follower) open(ctx context.Context, at int) (*os.File, error) {
	for {
		file, err := os.Open(f.name(at))
		if err == nil {
			return file, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("follow: %w", err)
		}
		at = 0
		if err := sleep(ctx, followPoll); err != nil {
			return nil, err
		}
	}
}

// readOne reads a file from offset until another has taken its place and it is
// read to its end, or it was emptied.
func (f *follower) readOne(ctx context.Context, file *os.File, offset int64) (Position, error) {
	info, err := file.Stat()
	if err != nil {
		return Position{}, fmt.Errorf("follow: %w", err)
	}
	id := fileIDOf(file)
	f.head = 0
	if offset > info.Size() {
		offset = 0
	}
	if _, err := file.Seek(offset, io.SeekStart); err != nil {
		return id, fmt.Errorf("follow: %w", err)
	}
	for last := false; ; {
		n, err := f.drain(ctx, file, &offset, id)
		if err != nil {
			return id, err
		}
		if n > 0 {
			last = false
			continue
		}
		if last {
			// What is left of a line will not be finished any more.
			return id, f.end(ctx, id, offset)
		}
		now, size, err := statID(f.path)
		switch {
		case err == nil && now == id && size < offset:
			return id, f.end(ctx, id, offset)
		case err == nil && now == id, errors.Is(err, fs.ErrNotExist):
			if err := sleep(ctx, followPoll); err != nil {
				return id, err
			}
		case err != nil:
			return id, fmt.Errorf("follow %s: %w", f.path, err)
		default:
			// Rotated. The writer may have put one more line into it since the
			// last read.
			last = true
		}
	}
}

// drain reads what there is now.
func (f *follower) drain(ctx context.Context, file *os.File, offset *int64, id Position) (total int, err error) {
	for {
		if err := f.r.acquire(ctx); err != nil {
			return total, err
		}
		n, err := file.Read(f.r.room())
		if n > 0 {
			*offset += int64(n)
			total += n
			if f.head == 0 {
				f.head = headOf(file)
			}
			if err := f.r.filled(ctx, n, false, Position{dev: id.dev, ino: id.ino, offset: *offset, head: f.head}); err != nil {
				return total, err
			}
		}
		if err == io.EOF {
			return total, nil
		}
		if err != nil {
			return total, fmt.Errorf("follow: %w", err)
		}
	}
}

func (f *follower) end(ctx context.Context, id Position, offset int64) error {
	if err := f.r.acquire(ctx); err != nil {
		return err
	}
	id.offset, id.head = offset, f.head
	return f.r.filled(ctx, 0, true, id)
}

func fileIDOf(file *os.File) Position {
	var st unix.Stat_t
	if err := unix.Fstat(int(file.Fd()), &st); err != nil {
		return Position{}
	}
	return Position{dev: st.Dev, ino: st.Ino}
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
