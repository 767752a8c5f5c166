//go:build power

package powercut

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/integration/harness"
	"github.com/auditfleet/auditfleet/internal/need"
)

// The hosts of the two forwarders, and the words before each record's number.
const (
	auditing  = "kpower" // reads the kernel, writes a log, ships by gRPC
	following = "fpower" // follows a file, ships by the audisp-remote protocol
	numbered  = "powercut n="
)

// openKernel takes the kernel's audit for this test and gives it back after it.
func openKernel(t *testing.T) *harness.Kernel {
	t.Helper()
	need.Stock(t, "auditctl")
	need.Kernel(t)
	k, err := harness.OpenKernel()
	if err != nil {
		t.Fatal(err)
	}
	kernelOpen.Store(true)
	t.Cleanup(func() {
		kernelOpen.Store(false)
		if err := k.Close(); err != nil {
			t.Error(err)
		}
	})
	return k
}

// audited sends numbered records through the kernel, as programs do that audit what they do.
type audited struct {
	fd   int
	next int
}

func (a *audited) send() error {
	const trustedApp = 1121
	text := fmt.Sprintf("%s%d res=success\x00", numbered, a.next)
	b := make([]byte, syscall.NLMSG_HDRLEN, 256)
	b = append(b, text...)
	binary.NativeEndian.PutUint32(b, uint32(len(b)))
	binary.NativeEndian.PutUint16(b[4:], trustedApp)
	binary.NativeEndian.PutUint16(b[6:], syscall.NLM_F_REQUEST|syscall.NLM_F_ACK)
	if err := syscall.Sendto(a.fd, b, 0, &syscall.SockaddrNetlink{Family: syscall.AF_NETLINK}); err != nil {
		return fmt.Errorf("send a record to the kernel: %w", err)
	}
	answer := make([]byte, 512)
	n, _, err := syscall.Recvfrom(a.fd, answer, 0)
	if err != nil || n < syscall.NLMSG_HDRLEN+4 || int32(binary.NativeEndian.Uint32(answer[syscall.NLMSG_HDRLEN:])) != 0 {
		return fmt.Errorf("the kernel's answer to a record: % x: %w", answer[:max(n, 0)], err)
	}
	a.next++
	return nil
}

// synced is a log that another program writes and syncs, and where the disk's log was afterwards.
type synced struct {
	f *os.File

	mu   sync.Mutex // guards done
	done []int64    // where the log was once the record was synced
}

func (s *synced) append(position func() int64, records int) error {
	s.mu.Lock()
	first := len(s.done)
	s.mu.Unlock()
	var text []byte
	for n := first; n < first+records; n++ {
		text = fmt.Appendf(text, "type=USER msg=audit(%d.000:%d): pid=1 uid=0 auid=1000 ses=1 msg='%s%d res=success'\n", 1_790_000_000+n/10, n+1, numbered, n)
	}
	if _, err := s.f.Write(text); err != nil {
		return err
	}
	if err := s.f.Sync(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for at := position(); records > 0; records-- {
		s.done = append(s.done, at)
	}
	return nil
}

func (s *synced) at(position int64) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return sort.Search(len(s.done), func(i int) bool { return s.done[i] > position })
}

// moments pairs positions of two logs: when the first had so many bytes, the second had at most as many.
type moments struct {
	mu   sync.Mutex // guards list
	list [][2]int64
}

// watch notes them until ctx is over.
func (m *moments) watch(ctx context.Context, first, second *Device) {
	last := [2]int64{-1, -1}
	for ctx.Err() == nil {
		now := [2]int64{first.Position(), second.Position()}
		// Where the first goes on meanwhile, the second may have what came of that.
		if now != last && first.Position() == now[0] {
			m.mu.Lock()
			m.list = append(m.list, now)
			m.mu.Unlock()
			last = now
		}
		time.Sleep(500 * time.Microsecond)
	}
}

// before is this position of the first, or the last one before it, at which the second's is known; false: there is none.
func (m *moments) before(first int64) (int64, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	i := sort.Search(len(m.list), func(i int) bool { return m.list[i][0] > first })
	if i == 0 || i == len(m.list) {
		return 0, false
	}
	if m.list[i][1] == m.list[i-1][1] { // it was the same all the time
		return first, true
	}
	return m.list[i-1][0], true
}

// second is the second's position when the first was there, or next behind.
func (m *moments) second(first int64) (int64, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	i := sort.Search(len(m.list), func(i int) bool { return m.list[i][0] >= first })
	if i == len(m.list) {
		return 0, false
	}
	return m.list[i][1], true
}

// numbers reads the numbers of a host's records in lines; each may be there once.
func numbers(lines []byte, node string) (map[int]bool, error) {
	seen := map[int]bool{}
	for _, line := range bytes.Split(lines, []byte("\n")) {
		_, rest, ok := bytes.Cut(line, []byte(numbered))
		if !ok || node != "" && !bytes.HasPrefix(line, []byte("node="+node+" ")) {
			continue
		}
		text, _, _ := bytes.Cut(rest, []byte(" "))
		n, err := strconv.Atoi(string(text))
		if err != nil {
			return nil, fmt.Errorf("not a record that was sent: %q", line)
		}
		if seen[n] {
			return nil, fmt.Errorf("record %d of %s is there twice", n, node)
		}
		seen[n] = true
	}
	return seen, nil
}

// gap returns the first number that is missing before the highest, -1 when none is.
func gap(seen map[int]bool) int {
	for n := range len(seen) {
		if !seen[n] {
			return n
		}
	}
	return -1
}

// localLog reads a log with its rotated parts: whole lines, but for the last of the newest. holed says that the
// newest has zeros, where the disk did not write a sector of what was not synced.
func localLog(file string) (seen map[int]bool, holed bool, err error) {
	names, err := filepath.Glob(file + "*")
	if err != nil {
		return nil, false, err
	}
	slices.SortFunc(names, func(a, b string) int { return len(b) - len(a) })
	var all []byte
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, false, err
		}
		whole := bytes.LastIndexByte(text, '\n') + 1
		if whole < len(text) && name != file {
			return nil, false, fmt.Errorf("%s ends within a line: %.200q", name, text[whole:])
		}
		text = text[:whole]
		if holed = name == file && bytes.IndexByte(text, 0) >= 0; holed { // a hole may begin where a line does, or within a number
			lines := slices.Collect(bytes.Lines(text))
			text = bytes.Join(slices.DeleteFunc(lines, func(line []byte) bool { return bytes.IndexByte(line, 0) >= 0 }), nil)
		}
		all = append(all, text...)
	}
	for _, line := range bytes.Split(bytes.TrimSuffix(all, []byte("\n")), []byte("\n")) {
		if len(line) > 0 && !bytes.HasPrefix(line, []byte("node="+auditing+" type=")) {
			return nil, false, fmt.Errorf("the local log has %.200q", line)
		}
	}
	seen, err = numbers(all, auditing)
	return seen, holed, err
}

// startForwarder starts one, and waits until it is the kernel's daemon if it is to be. Each of bind is {from, to} as
// in harness.Spec.
func startForwarder(k *harness.Kernel, bind [][2]string, args ...string) (*harness.Proc, error) {
	p, err := harness.Start(harness.Spec{Name: "forwarder run", Args: args, Bind: bind})
	if err != nil || k == nil {
		return p, err
	}
	registered := func() bool {
		st, err := k.Status()
		return err == nil && st["pid"] == p.Pid()
	}
	if !harness.Poll(patience, func() bool { return registered() || p.Exited() }) || p.Exited() {
		return p, errors.New("the forwarder did not register with the kernel:\n" + p.Output())
	}
	return p, nil
}
