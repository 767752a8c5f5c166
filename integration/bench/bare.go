package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/auditfleet/auditfleet/integration/harness"
	"github.com/auditfleet/auditfleet/proto/remote"
)

const bareSpace = 512 << 20 // bytes set aside for what it receives

// bareServer is the least that a server has to do which keeps the promise: read,
// append to a file, one sync for all that has arrived, answer. It parses nothing,
// recognises nothing and keeps no index, in one thread without a scheduler of its
// own, into a file whose space was set aside; what it reaches under a load bounds
// what any server does here.
func bareServer() serverKind {
	return serverKind{"bare", func(_ *bench, dir string) (string, *harness.Proc, error) {
		self, err := os.Executable()
		if err != nil {
			return "", nil, err
		}
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return "", nil, err
		}
		p, err := harness.Start(harness.Spec{Name: "bare", Args: []string{self, "-bare", filepath.Join(dir, "bare.log")}})
		if err != nil {
			return "", nil, err
		}
		for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
			if addr, whole := strings.CutSuffix(p.Output(), "\n"); whole {
				return addr, p, nil
			}
			if p.Exited() {
				break
			}
		}
		p.Kill()
		return "", nil, fmt.Errorf("the bare server did not start: %s", p.Output())
	}}
}

// serveBare is that server, until a signal ends it.
func serveBare(path string) error {
	out, err := os.Create(path)
	if err != nil {
		return err
	}
	if err := unix.Fallocate(int(out.Fd()), 0, 0, bareSpace); err != nil {
		return err
	}
	if err := out.Sync(); err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	file, err := l.(*net.TCPListener).File()
	if err != nil {
		return err
	}
	fmt.Println(l.Addr())
	poll, err := unix.EpollCreate1(0)
	if err != nil {
		return err
	}
	listener := int(file.Fd())
	if err := watch(poll, listener); err != nil {
		return err
	}
	var (
		buf     = make([]byte, 128<<10)
		text    []byte
		events  = make([]unix.EpollEvent, 1024)
		replies = map[int][]byte{} // by socket
		ready   []int
	)
	for {
		n, err := unix.EpollWait(poll, events, -1)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
		text, ready = text[:0], ready[:0]
		for _, e := range events[:max(n, 0)] {
			fd := int(e.Fd)
			if fd == listener {
				conn, _, err := unix.Accept(listener)
				if err == nil {
					err = watch(poll, conn)
				}
				if err != nil {
					return err
				}
				continue
			}
			n, err := unix.Read(fd, buf)
			if err != nil || n == 0 {
				_ = unix.Close(fd)
				continue
			}
			text = append(text, buf[:n]...)
			if replies[fd], err = answer(replies[fd][:0], buf[:n]); err != nil {
				return err
			}
			ready = append(ready, fd)
		}
		if len(ready) == 0 {
			continue
		}
		if _, err := out.Write(text); err != nil {
			return err
		}
		if err := unix.Fdatasync(int(out.Fd())); err != nil {
			return err
		}
		for _, fd := range ready {
			if _, err := unix.Write(fd, replies[fd]); err != nil {
				return err
			}
		}
	}
}

func watch(poll, fd int) error {
	return unix.EpollCtl(poll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)}) //nolint:gosec // a descriptor
}

// answer appends an ACK of each frame; stop-and-wait senders send whole ones.
func answer(dst, in []byte) ([]byte, error) {
	var dec remote.Decoder
	for len(in) > 0 {
		f, n, err := dec.Decode(in)
		if err != nil || n == 0 {
			return nil, fmt.Errorf("not a whole frame: %w", err)
		}
		dst, in = remote.AppendHeader(dst, remote.Ack, f.Seq, 0), in[n:]
	}
	return dst, nil
}
