package fsys

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Syncer makes files durable as File.Datasync does, with the kernel doing it aside (io_submit(2),
// IOCB_CMD_FDSYNC): no thread of the process is in the call meanwhile, the goroutine waits as for a
// socket. While a thread is in a call, the runtime's monitor looks every 20 µs whether it is
// back, which costs a process that does little else more than the sync. The sync itself takes some µs longer, for others
// have to be woken for it; where all CPUs are wanted that is much, and then it is made in the usual way.
// The zero value is ready; the caller closes it. One goroutine may use it at a time.
type Syncer struct {
	ring         *syncRing
	never        bool // the kernel, or what guards this process, has no such call
	usual, aside syncTime
	syncs        uint // so far
}

// syncTime is how long syncs of one way took lately; 0: none was made.
type syncTime time.Duration

const (
	// asideMore is how much longer than in the usual way a sync may take.
	asideMore = time.Millisecond
	// otherEvery is how often the way is taken that seems the worse one, to see.
	otherEvery = 32
	// syncMost bounds what a single sync says of its way.
	syncMost = 10 * time.Millisecond
)

func (t *syncTime) add(took time.Duration) {
	took = min(max(took, 1), syncMost)
	if *t == 0 {
		*t = syncTime(took)
		return
	}
	*t = max(*t+(syncTime(took)-*t)/8, 1)
}

// isAside says which way the next sync goes.
func (s *Syncer) isAside() bool {
	switch {
	case s.aside == 0:
		return true
	case s.usual == 0:
		return false
	}
	s.syncs++
	better := s.aside <= s.usual+syncTime(asideMore)
	return better != (s.syncs%otherEvery == 0)
}

// syncRing is the kernel's context of one call, and what tells of its end.
type syncRing struct {
	context uintptr
	file    *os.File // eventfd(2)
	event   syscall.RawConn
	call    iocb
	done    ioEvent
	counter [8]byte
}

// iocb is struct iocb of linux/aio_abi.h, ioEvent struct io_event.
type iocb struct {
	data       uint64    // comes back with the call's end
	_          [2]uint32 // key, flags
	opcode     uint16
	_          int16 // priority
	descriptor uint32
	_          [4]uint64 // buffer, length, offset, reserved
	has, event uint32
}

type ioEvent struct {
	data   uint64 // of the call
	object uint64
	result int64
	_      int64
}

const (
	iocbFdsync  = 3 // IOCB_CMD_FDSYNC
	iocbHasFile = 1 // IOCB_FLAG_RESFD
)

// Datasync is f.Datasync. It is that call where the kernel can't do it aside, or is slow to, and for files that are not
// the operating system's.
func (s *Syncer) Datasync(f File) error {
	of, ok := f.(osFile)
	if !ok || s.never {
		return f.Datasync()
	}
	if s.ring == nil {
		ring, err := openSyncRing()
		if err != nil {
			s.never = true
			return f.Datasync()
		}
		s.ring = ring
	}
	begun := time.Now()
	if !s.isAside() {
		err := f.Datasync()
		s.usual.add(time.Since(begun))
		return err
	}
	err := s.ring.sync(of.File)
	s.aside.add(time.Since(begun))
	switch {
	case errors.Is(err, errNotAside):
		s.never = true
		return errors.Join(s.Close(), f.Datasync())
	case err != nil:
		return &fs.PathError{Op: "fdatasync", Path: f.Name(), Err: err}
	}
	return nil
}

// Close waits for nothing: no Datasync runs.
func (s *Syncer) Close() error {
	if s.ring == nil {
		return nil
	}
	err := s.ring.close()
	s.ring = nil
	return err
}

// errNotAside says that nothing was begun.
var errNotAside = errors.New("not aside")

func openSyncRing() (*syncRing, error) {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, os.NewSyscallError("eventfd", err)
	}
	r := &syncRing{file: os.NewFile(uintptr(fd), "eventfd")}
	// A descriptor that the runtime could not have watched has no deadlines either, and nobody would hear of a sync's end.
	if err = r.file.SetReadDeadline(time.Time{}); err == nil {
		r.event, err = r.file.SyscallConn()
	}
	if err == nil {
		if _, _, errno := unix.Syscall(unix.SYS_IO_SETUP, 1, uintptr(unsafe.Pointer(&r.context)), 0); errno != 0 {
			err = os.NewSyscallError("io_setup", errno)
		}
	}
	if err != nil {
		return nil, errors.Join(err, r.file.Close())
	}
	r.call = iocb{opcode: iocbFdsync, has: iocbHasFile, event: uint32(fd)} //nolint:gosec // a descriptor
	return r, nil
}

func (r *syncRing) close() error {
	var err error
	if _, _, errno := unix.Syscall(unix.SYS_IO_DESTROY, r.context, 0, 0); errno != 0 {
		err = os.NewSyscallError("io_destroy", errno)
	}
	return errors.Join(err, r.file.Close())
}

// sync has f synced and returns the kernel's error. None of its calls waits, so the runtime need not be told of them.
func (r *syncRing) sync(f *os.File) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var errno unix.Errno
	r.call.data++ // the end of a sync that was given up must not be taken for this one's
	// The kernel holds the file from here on, and reads call only now.
	err = conn.Control(func(fd uintptr) {
		r.call.descriptor = uint32(fd) //nolint:gosec // a descriptor
		calls := [1]*iocb{&r.call}
		_, _, errno = unix.RawSyscall(unix.SYS_IO_SUBMIT, r.context, 1, uintptr(unsafe.Pointer(&calls)))
	})
	switch {
	case err != nil:
		return err
	case errno != 0: // also for want of memory: then the usual way may still do
		return errNotAside
	}
	err = r.event.Read(func(fd uintptr) bool {
		_, _, _ = unix.RawSyscall(unix.SYS_READ, fd, uintptr(unsafe.Pointer(&r.counter)), uintptr(len(r.counter)))
		return r.ended(&errno)
	})
	switch {
	case err != nil:
		return err
	case errno != 0:
		return errno
	case r.done.result < 0:
		return unix.Errno(-r.done.result)
	}
	return nil
}

// ended looks whether the call has ended, or the kernel can't say so (errno).
func (r *syncRing) ended(errno *unix.Errno) bool {
	for {
		var n uintptr
		n, _, *errno = unix.RawSyscall6(unix.SYS_IO_GETEVENTS, r.context, 0, 1, uintptr(unsafe.Pointer(&r.done)), 0, 0)
		switch {
		case *errno == unix.EINTR: // nothing has ended, and a signal came: the runtime sends itself many
		case *errno != 0:
			return true
		case n == 0:
			return false
		case r.done.data == r.call.data:
			return true
		}
	}
}
