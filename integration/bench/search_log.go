package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/auditfleet/auditfleet/integration/harness"
)

// searched is the log that searches and reports are about.
type searched struct {
	file   string // what the stock tools read
	factor float64
	all    string // what is stored; file is its first part where factor is above 1
	made   harness.Made
	hosts  []string
	mid    time.Time
	serial string // of an event in the middle of file
	pid    string
}

// sampleBytes is about how much of a larger log the stock tools read.
const sampleBytes = gigabyte

// loginWriter puts a login behind each piece of whole events, with the last
// record's host and time: the recording has none.
type loginWriter struct {
	w io.Writer
	n int
}

func (l *loginWriter) Write(p []byte) (int, error) {
	if _, err := l.w.Write(p); err != nil {
		return 0, err
	}
	last := bytes.TrimSuffix(p, []byte("\n"))
	last = last[bytes.LastIndexByte(last, '\n')+1:]
	node, rest, _ := bytes.Cut(last, []byte("type="))
	_, at, ok := bytes.Cut(rest, []byte("msg=audit("))
	sec, _, ok2 := bytes.Cut(at, []byte(":"))
	if !ok || !ok2 {
		return len(p), nil
	}
	l.n++
	_, err := fmt.Fprintf(l.w, "%stype=USER_LOGIN msg=audit(%s:%d): pid=%d uid=0 auid=%d ses=%d msg='op=login id=%d exe=\"/usr/sbin/sshd\" hostname=10.0.%d.%d addr=10.0.%d.%d terminal=ssh res=%s'\n",
		node, sec, 900_000_000+l.n, 4000+l.n%900, 1000+l.n%20, l.n, 1000+l.n%20, l.n%7, l.n%250, l.n%7, l.n%250, []string{"success", "success", "failed"}[l.n%3])
	return len(p), err
}

// makeSearched writes the log.
func (b *bench) makeSearched() (s searched, returned error) {
	s = searched{all: filepath.Join(b.dir, "search.log"), factor: 1, hosts: []string{"web1"}}
	for i := 2; i <= b.hosts; i++ {
		s.hosts = append(s.hosts, fmt.Sprintf("web%d", i))
	}
	s.file = s.all
	f, err := os.Create(s.all)
	if err != nil {
		return s, err
	}
	start := time.Unix(1763600000, 0)
	size := int64(b.size * float64(gigabyte))
	s.made, err = b.raw.Write(&loginWriter{w: f}, harness.Make{
		Seed: 9, Bytes: size, Nodes: s.hosts, Start: start, Step: time.Millisecond, RareKey: rareKey, RareEvery: 20_000,
	})
	if err := f.Close(); err != nil {
		return s, err
	}
	if err != nil {
		return s, err
	}
	if size > 2*sampleBytes {
		s.file = filepath.Join(b.dir, "sample.log")
		if s.factor, err = sample(s.all, s.file); err != nil {
			return s, err
		}
	}
	s.mid = start.Add(time.Duration(float64(s.made.Last.Sub(start)) / 2 / s.factor)).UTC()
	s.serial, s.pid = someEvent(s.file)
	return s, nil
}

// sample copies the beginning of a log, whole lines, and says how often it fits.
func sample(from, to string) (factor float64, returned error) {
	in, err := os.Open(from)
	if err != nil {
		return 0, err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return 0, err
	}
	out, err := os.Create(to)
	if err != nil {
		return 0, err
	}
	n, err := io.CopyN(out, in, sampleBytes)
	buf := make([]byte, 64<<10)
	if err == nil {
		var more int
		more, err = in.Read(buf)
		if line := bytes.IndexByte(buf[:more], '\n'); err == nil {
			_, err = out.Write(buf[:line+1])
		}
	}
	if cerr := out.Close(); err == nil {
		err = cerr
	}
	return float64(info.Size()) / float64(n), err
}

// someEvent is serial and process of an event in the middle of a file.
func someEvent(file string) (serial, pid string) {
	f, err := os.Open(file)
	if err != nil {
		return "1", "1"
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "1", "1"
	}
	buf := make([]byte, 64<<10)
	n, _ := f.ReadAt(buf, info.Size()/2)
	_, rest, ok := bytes.Cut(buf[:n], []byte("type=SYSCALL msg=audit("))
	if !ok {
		return "1", "1"
	}
	_, rest, _ = bytes.Cut(rest, []byte(":"))
	s, rest, _ := bytes.Cut(rest, []byte(")"))
	_, rest, _ = bytes.Cut(rest, []byte(" pid="))
	p, _, _ := bytes.Cut(rest, []byte(" "))
	return string(s), string(p)
}
