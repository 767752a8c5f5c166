package search

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/fsys"
)

// A checkpoint says where a search of logs ended. It is stored in the stock tool's file
// format (CHECKPOINT.md), so this program and the stock tool can continue each other's
// searches. What the stock tool does not know stands where it does not look.
type checkpoint struct {
	log  logID  // where the next reading begins
	last mark   // of the last event that was complete
	nth  uint64 // which event last is in a reading that begins with log; 0 where that is not known

	// nothing says that no log had anything, so that the next search begins with all: a log
	// without a line could not be told from another that has got its inode.
	nothing bool

	// early are the events after last that were printed before they were complete.
	early earlyEvents
}

// mark identifies the last event that was complete.
type mark struct {
	node    string
	hasNode bool
	sec     int64 // 0: there was none
	milli   int64
	serial  uint64
	typ     uint32 // of its first record
}

// noType is what stands for a type without a number.
const noType = 1<<32 - 1

func markOf(ev *event.Event) mark {
	m := mark{node: string(ev.Node), hasNode: ev.Node != nil, sec: ev.Ms / 1000, milli: ev.Ms % 1000, serial: ev.Serial, typ: noType}
	if len(ev.Records) > 0 && ev.Records[0].Type != 0 {
		m.typ = uint32(ev.Records[0].Type)
	}
	return m
}

// is says whether ev is the event of m. What had no number once may have one now.
func (m *mark) is(ev *event.Event) bool {
	if m.sec*1000+m.milli != ev.Ms || m.serial != ev.Serial || m.hasNode != (ev.Node != nil) || m.node != string(ev.Node) {
		return false
	}
	return m.typ == noType || m.typ == markOf(ev).typ
}

// appendTo appends "output=NODE SECONDS.MILLIS:SERIAL 0xTYPE" and a newline.
func (m *mark) appendTo(dst []byte) []byte {
	node := "-"
	if m.hasNode {
		node = m.node
	}
	return fmt.Appendf(dst, "output=%s %d.%03d:%d 0x%X\n", node, m.sec, m.milli, m.serial, m.typ)
}

// CheckpointError is returned for a checkpoint that cannot be used. Its text is printed
// to standard error.
type CheckpointError struct {
	Code int // the stock tool's: 10 not valid, 11 cannot be read or written, 12 its event is not there
	Text string
}

func (e *CheckpointError) Error() string { return e.Text }

// Exit codes of checkpoints.
const (
	codeInvalid = 10
	codeFailed  = 11
	codeMissing = 12
)

// hostsLine is the first line of a checkpoint of a collector's store.
const hostsLine = "hosts=1"

// maxCheckpoint is the largest checkpoint that is read, in bytes; it is enough for some
// 100,000 hosts.
const maxCheckpoint = 32 << 20

// readCheckpoint reads a checkpoint; nil when there is no such file.
func readCheckpoint(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err == nil {
		if info, serr := f.Stat(); serr == nil && info.Mode()&fs.ModeNamedPipe != 0 { // it would be waited for
			err = errors.Join(errors.New("is a pipe"), f.Close())
		}
	}
	var b []byte
	if err == nil {
		defer f.Close() // read only
		b, err = io.ReadAll(io.LimitReader(f, maxCheckpoint))
	}
	if err != nil {
		return nil, &CheckpointError{codeInvalid, fmt.Sprintf("Cannot open checkpoint file - %s: %v", path, fsys.Cause(err))}
	}
	if b == nil {
		b = []byte{}
	}
	return b, nil
}

// loadCheckpoint reads the checkpoint of a log; nil when there is none yet. The
// error is a *CheckpointError.
func loadCheckpoint(path string) (*checkpoint, error) {
	b, err := readCheckpoint(path)
	if b == nil || err != nil {
		return nil, err
	}
	cp := &checkpoint{early: earlyEvents{}}
	bad := ""
	for s := bufio.NewScanner(bytes.NewReader(b)); bad == "" && s.Scan(); {
		bad = cp.line(s.Text())
	}
	if bad == hostsLine {
		return nil, &CheckpointError{codeInvalid, path + " is the checkpoint of a collector's store, not of a log"}
	}
	if bad == "" && cp.ours() && (!bytes.HasSuffix(b, []byte("\n")) || !bytes.Contains(b, []byte("\noutput="))) {
		bad = "The end of checkpoint file " + path + " is missing"
	}
	if cp.log.dev == 0 || cp.log.inode == 0 {
		bad = strings.TrimPrefix(bad+"\nMissing dev/inode lines from checkpoint file "+path, "\n")
	}
	if bad != "" {
		return nil, &CheckpointError{codeInvalid, bad}
	}
	return cp, nil
}

// line reads one line and returns what is wrong with it.
func (cp *checkpoint) line(s string) (bad string) {
	var err error
	switch name, v, _ := strings.Cut(s, "="); {
	case s == hostsLine:
		return hostsLine
	case name == "dev":
		if cp.log.dev, err = low32(strings.TrimPrefix(strings.TrimPrefix(v, "0x"), "0X"), 16); err != nil {
			return "Malformed dev checkpoint line - [" + s + "]"
		}
	case name == "inode":
		number, words, _ := strings.Cut(v, " ")
		if cp.log.inode, err = low32(number, 0); err != nil || !cp.words(words) {
			return "Malformed inode checkpoint line - [" + s + "]"
		}
	case name == "output":
		var ok bool
		if cp.last, ok = parseMark(v); !ok {
			return "Malformed output/event checkpoint line - [" + s + "]"
		}
	default:
		return "Unknown checkpoint line - [" + s + "]"
	}
	return ""
}

func low32(s string, base int) (uint32, error) {
	n, err := strconv.ParseUint(s, base, 64)
	return uint32(n), err
}

// maxMarkSec bounds the seconds of a mark, because they are converted to milliseconds.
const maxMarkSec = 1e12

// parseMark reads "NODE SECONDS.MILLIS:SERIAL 0xTYPE".
func parseMark(s string) (m mark, ok bool) {
	node, rest, ok := strings.Cut(s, " ")
	if !ok || node == "" {
		return m, false
	}
	if m.hasNode = node[0] != '-' || len(node) > 1; m.hasNode {
		m.node = node
	}
	sec, rest, ok1 := strings.Cut(rest, ".")
	milli, rest, ok2 := strings.Cut(rest, ":")
	serial, typ, ok3 := strings.Cut(rest, " 0x")
	if !ok1 || !ok2 || !ok3 {
		return m, false
	}
	var errs [4]error
	m.sec, errs[0] = strconv.ParseInt(sec, 10, 64)
	m.milli, errs[1] = strconv.ParseInt(milli, 10, 64)
	m.serial, errs[2] = strconv.ParseUint(serial, 10, 64)
	m.typ, errs[3] = low32(typ, 16)
	return m, errors.Join(errs[:]...) == nil && m.sec >= 0 && m.sec <= maxMarkSec && m.milli >= 0 && m.milli < 1000
}

// writeCheckpoint replaces a checkpoint whole, so that no crash leaves half of
// one.
func writeCheckpoint(path string, text []byte) (err error) {
	defer func() {
		if err != nil {
			err = &CheckpointError{codeFailed, fmt.Sprintf("Cannot open checkpoint file - %s: %v", path, fsys.Cause(err))}
		}
	}()
	if target, err := filepath.EvalSymlinks(path); err == nil && target != path {
		if err := fsys.CheckLink(path); err != nil {
			return err
		}
		path = target
	}
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		f, err := os.OpenFile(path, os.O_WRONLY|unix.O_NONBLOCK, 0)
		if err != nil {
			return err
		}
		_, err = f.Write(text)
		return errors.Join(err, f.Close())
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".")
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name()) // the error before it counts
	}
	return err
}
