package lines

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/auditfleet/auditfleet/pkg/logscan"
)

// waker lets a goroutine that waits for a descriptor be woken.
type waker struct{ fd int }

func newWaker() (*waker, error) {
	fd, err := unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("open an eventfd: %w", err)
	}
	return &waker{fd: fd}, nil
}

func (w *waker) wake() {
	var one [8]byte
	binary.NativeEndian.PutUint64(one[:], 1)
	// It only fails when it has been woken already.
	_, _ = unix.Write(w.fd, one[:])
}

func (w *waker) close() error { return unix.Close(w.fd) }

// quietEnd is how long a stream may be silent, once its end was asked for, until it counts
// as over.
const quietEnd = 300 * time.Millisecond

// stream reads a pipe, socket or file. A read that waits ends with ctx; after soft's end,
// also when nothing has come for quietEnd.
type stream struct {
	ctx, soft context.Context
	f         *os.File
	waker     int // readable once one of the two has ended
}

// readStream reads a pipe, socket or file to its end: io.EOF.
func (in *Input) readStream(ctx, soft context.Context) (err error) {
	w, err := newWaker()
	if err != nil {
		return err
	}
	woken := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(woken)
		w.wake()
	})
	softly := make(chan struct{})
	stopSoft := context.AfterFunc(soft, func() {
		defer close(softly)
		w.wake()
	})
	defer func() {
		// The descriptor must not be closed while it is written to.
		if !stop() {
			<-woken
		}
		if !stopSoft() {
			<-softly
		}
		if cerr := w.close(); cerr != nil {
			err = errors.Join(err, cerr)
		}
	}()
	src, damage := logscan.UnpackStream(&stream{ctx, soft, in.file, w.fd}, in.file.Name())
	return in.read(ctx, src, damage)
}

func (s *stream) Read(p []byte) (int, error) {
	fds := []unix.PollFd{{Fd: int32(s.f.Fd()), Events: unix.POLLIN}, {Fd: int32(s.waker), Events: unix.POLLIN}}
	for {
		ending := s.soft.Err() != nil
		wait := -1
		watched := fds
		if ending {
			// The waker stays awake.
			wait, watched = int(quietEnd.Milliseconds()), fds[:1]
		}
		n, err := unix.Poll(watched, wait)
		if err != nil && err != unix.EINTR {
			return 0, fmt.Errorf("poll %s: %w", s.f.Name(), err)
		}
		if s.ctx.Err() != nil {
			return 0, s.ctx.Err()
		}
		if ending && err == nil && n == 0 {
			return 0, context.Canceled
		}
		if err != nil || fds[0].Revents == 0 {
			continue
		}
		n, err = unix.Read(int(s.f.Fd()), p)
		switch {
		case err == unix.EINTR || err == unix.EAGAIN:
		case err != nil:
			return 0, fmt.Errorf("read %s: %w", s.f.Name(), err)
		case n == 0:
			return 0, io.EOF
		default:
			return n, nil
		}
	}
}
