package harness

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"
)

// chaosSink is a collector.
type chaosSink struct {
	party
	net  *Netns
	opts CollectorOptions
	*Collector
	down bool
}

func (s *chaosSink) start(bins *Binaries) (err error) {
	s.Collector, err = StartCollector(bins, s.opts)
	s.down = false
	return err
}

func (s *chaosSink) close() {
	if s.Collector != nil {
		s.Kill()
	}
	if s.net != nil {
		s.net.Close()
	}
}

// hostWeb is where a forwarder has its metrics, in its namespace.
const hostWeb = "127.0.0.1:8061"

// chaosHost is a forwarder and the log that it follows.
type chaosHost struct {
	party
	dir     string
	net     *Netns
	cables  []*Cable // to each collector
	args    []string
	proc    *Proc
	down    bool
	kills   int // of its forwarder
	revoked bool

	log     chaosLog
	file    *os.File
	written atomic.Int64
	calm    chan struct{} // closed when the rest may be written
	stop    chan struct{}
	done    chan error // of write
	closed  bool
}

func (h *chaosHost) start(bins *Binaries) (err error) {
	h.proc, err = Start(Spec{Name: "forwarder run (" + h.name + ")", Args: h.net.Args(append([]string{bins.Forwarder}, h.args...)...), Env: raceEnv()})
	if err != nil {
		return err
	}
	h.down = false
	// Before it has read its files, a torn one would keep it from starting.
	if !Poll(time.Minute, func() bool {
		_, err = h.spooled()
		return err == nil || h.proc.Exited()
	}) || err != nil {
		return fmt.Errorf("%s does not start: %w", h.name, err)
	}
	return nil
}

func (h *chaosHost) close() {
	if h.closed {
		return
	}
	h.closed = true
	close(h.stop)
	if h.proc != nil {
		h.proc.Kill()
	}
	if h.net != nil {
		h.net.Close()
	}
}

// turmoil is how many of the records are written before the calm.
func (h *chaosHost) turmoil() int { return h.log.last * 9 / 10 }

// write writes the log, at rate records a second; the last tenth once it is calm.
func (h *chaosHost) write(rate int) {
	err := h.grow(h.turmoil(), 0, rate)
	select {
	case <-h.calm:
		if err == nil {
			err = h.grow(h.log.last, h.turmoil(), rate)
		}
	case <-h.stop:
	}
	if cerr := h.file.Close(); err == nil {
		err = cerr
	}
	h.done <- err
}

// grow writes records from number n up to another.
func (h *chaosHost) grow(until, n, rate int) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	begin, first := time.Now(), n
	var buf []byte
	for n < until {
		select {
		case <-h.stop:
			return nil
		case <-tick.C:
		}
		due := first + int(time.Since(begin).Seconds()*float64(rate))
		buf = buf[:0]
		for ; n < min(due, until); n++ {
			buf = h.log.append(buf, n)
		}
		// A line may come in two writes.
		for _, part := range [][]byte{buf[:len(buf)/2], buf[len(buf)/2:]} {
			if _, err := h.file.Write(part); err != nil {
				return err
			}
		}
		h.written.Store(int64(n))
	}
	return nil
}

// spooled returns how many records wait.
func (h *chaosHost) spooled() (int, error) {
	n, err := metric(h.net, hostWeb, "auditfleet_forwarder_spool_records")
	return int(n), err
}

// acked is what a forwarder says that a collector has acknowledged: numbers of records in a row.
type acked struct {
	host     *chaosHost
	server   string
	from, to int // to exclusive
}

// acknowledged reads what a forwarder keeps of acknowledgements. A line that is being written
// is left out.
func (h *chaosHost) acknowledged() (list []acked, err error) {
	text, err := os.ReadFile(filepath.Join(h.dir, "spool", "acknowledged"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	for _, line := range strings.SplitAfter(string(text), "\n") {
		body, sum, _ := cutLast(line, " ")
		if f := strings.Fields(body); len(f) == 8 && sum == fmt.Sprintf("%08x\n", crc32.Checksum([]byte(body+" "), crc32.MakeTable(crc32.Castagnoli))) {
			// A record's index in the spool is its number and one.
			list = append(list, acked{host: h, server: f[5], from: atoi(strings.TrimLeft(f[1], "0")) - 1, to: atoi(strings.TrimLeft(f[2], "0"))})
		}
	}
	return list, err
}

func cutLast(s, sep string) (before, after string, ok bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}
