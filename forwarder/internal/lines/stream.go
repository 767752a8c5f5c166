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

// readStream reads a pipe, socket or file to its end: io.EOF. A read that waits
// ends with ctx; after soft's end, also when nothing has come for quietEnd.
func readStream(ctx, soft context.Context, f *os.File, r *reader) (err error) {
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
	fds := []unix.PollFd{{Fd: int32(f.Fd()), Events: unix.POLLIN}, {Fd: int32(w.fd), Events: unix.POLLIN}}
	for {
		if err := r.acquire(ctx); err != nil {
			return err
		}
		ending := soft.Err() != nil
		wait := -1
		watched := fds
		if ending {
			// The waker stays awake.
			wait, watched = int(quietEnd.Milliseconds()), fds[:1]
		}
		n, err := unix.Poll(watched, wait)
		if err != nil && err != unix.EINTR {
			return fmt.Errorf("poll %s: %w", f.Name(), err)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if ending && err == nil && n == 0 {
			return context.Canceled
		}
		if err != nil || fds[0].Revents == 0 {
			continue
		}
		n, err = unix.Read(int(f.Fd()), r.room())
		if err == unix.EINTR || err == unix.EAGAIN {
			continue
		}
		if err != nil {
			return fmt.Errorf("read %s: %w", f.Name(), err)
		}
		if err := r.filled(ctx, n, n == 0, Position{}); err != nil {
			return err
		}
		if n == 0 {
			return io.EOF
		}
	}
}
