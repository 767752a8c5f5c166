package spool

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"os"
	"path/filepath"
	"sync/atomic"

	"github.com/auditfleet/auditfleet/pkg/fsys"
)

const (
	stateName    = "state"
	stateVersion = 2
	slotSize     = 4096
	slotHead     = 40
	epochSize    = 28
	maxEpochs    = (slotSize - slotHead) / epochSize
	oldVersion   = 1 // without the streams' IDs
	oldEpochSize = 12
	oldMaxEpochs = (slotSize - slotHead) / oldEpochSize

	entryHead   = 7
	plainEntry  = 1
	markedEntry = 2
	resetEntry  = 3  // only a mark; its record is empty
	frameHead   = 24 // about how many bytes the log adds to an entry
)

var stateMagic = [8]byte{'A', 'F', 'S', 'P', 'O', 'O', 'L', 0}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

var (
	// ErrState is returned by Open when the file called state in the folder is not a
	// spool's, and by Peek when it has no valid slot.
	ErrState = errors.New("not a spool's state file")
	// ErrStateVersion is returned by Open when a newer version wrote the state file.
	ErrStateVersion = errors.New("spool state is newer than this program")
	// errEntry is returned by parseEntry for an entry of an unknown version or layout.
	errEntry = errors.New("unknown entry")
)

// appendEntry appends a record's entry as FORMAT.md draws it: version, append time in ms
// since 1970 (48 bits, little-endian), the mark with its length if there is one, line.
func appendEntry(dst []byte, ms int64, mark, line []byte) []byte {
	version := byte(plainEntry)
	if len(mark) > 0 {
		version = markedEntry
	}
	dst = append(dst, version, byte(ms), byte(ms>>8), byte(ms>>16), byte(ms>>24), byte(ms>>32), byte(ms>>40))
	if len(mark) > 0 {
		dst = append(append(dst, byte(len(mark))), mark...)
	}
	return append(dst, line...)
}

// appendReset appends a reset entry, which says where the source must go on after a loss:
// at mark, which may be empty.
func appendReset(dst []byte, ms int64, mark []byte) []byte {
	at := len(dst)
	dst = append(appendEntry(dst, ms, nil, nil), byte(len(mark)))
	dst[at] = resetEntry
	return append(dst, mark...)
}

// parseEntry decodes what appendEntry and appendReset encode. mark and line alias e. It
// checks every length and accepts any bytes; errEntry: e is no such entry.
func parseEntry(e []byte) (ms int64, mark, line []byte, err error) {
	if len(e) < entryHead || e[0] < plainEntry || e[0] > resetEntry {
		return 0, nil, nil, errEntry
	}
	var b [8]byte
	copy(b[:], e[1:entryHead])
	ms, line = int64(binary.LittleEndian.Uint64(b[:])), e[entryHead:]
	if e[0] == plainEntry {
		return ms, nil, line, nil
	}
	if len(line) == 0 || len(line) < 1+int(line[0]) {
		return 0, nil, nil, errEntry
	}
	n := 1 + int(line[0])
	mark, line = line[1:n:n], line[n:]
	if e[0] == resetEntry && len(line) > 0 || e[0] == markedEntry && n == 1 {
		return 0, nil, nil, errEntry
	}
	return ms, mark, line, nil
}

// entrySize estimates how many bytes an entry with a line of that length takes on disk.
func entrySize(line int) int { return frameHead + entryHead + line }

// epoch says that from index from on, until the next epoch begins, base is added to an
// index to make its sequence id, and that the records belong to a stream.
type epoch struct {
	from   uint64
	base   uint32
	stream StreamID
}

// StreamID tells the streams of all spools apart, whatever becomes of their files.
type StreamID [16]byte

func newStream() (id StreamID, err error) {
	if _, err = rand.Read(id[:]); err != nil {
		return id, fmt.Errorf("random stream: %w", err)
	}
	return id, nil
}

// epochs are a list of them, which is replaced as a whole.
type epochs = atomic.Pointer[[]epoch]

// seqOf returns a record's sequence id. Its top bit is always set and says that this
// program numbered the record. epochs ascend by from.
func seqOf(epochs []epoch, index uint64) uint32 {
	for i := len(epochs) - 1; i >= 0; i-- {
		if epochs[i].from <= index || i == 0 {
			return 0x80000000 | (epochs[i].base+uint32(index))&0x7fffffff
		}
	}
	return 0x80000000 | uint32(index)&0x7fffffff
}

// pruneEpochs drops the epochs that only records up to acked belong to.
func pruneEpochs(epochs []epoch, acked uint64) []epoch {
	for len(epochs) > 1 && epochs[1].from <= acked+1 {
		epochs = epochs[1:]
	}
	return epochs
}

// nextEpochs adds the epoch of this run: ids from index from on are ahead of all
// ids used before by 2^24 at least and by 2^25 at most, at random. That is more
// than could be sent unsynced, so no id of a lost record comes again; and a folder
// put back to an older state (a restored machine) goes on with other ids than
// those it used in the life that is gone.
func nextEpochs(old []epoch, acked, from uint64) ([]epoch, error) {
	var b [4]byte
	if _, err := rand.Read(b[:]); err != nil {
		return nil, fmt.Errorf("random base: %w", err)
	}
	random := binary.LittleEndian.Uint32(b[:])
	id, err := newStream()
	if err != nil {
		return nil, err
	}
	if len(old) == 0 {
		return []epoch{{from: 0, base: random & 0x7fffffff, stream: id}}, nil
	}
	next := epoch{from: from, base: old[len(old)-1].base + 1<<24 + random&(1<<24-1), stream: id}
	epochs := append([]epoch(nil), old...)
	for i := range epochs {
		if epochs[i].stream == (StreamID{}) { // an older program's
			if epochs[i].stream, err = newStream(); err != nil {
				return nil, err
			}
		}
	}
	if epochs[len(epochs)-1].from >= from {
		// No record had the last one.
		epochs = epochs[:len(epochs)-1]
	}
	epochs = pruneEpochs(append(epochs, next), acked)
	if len(epochs) > maxEpochs {
		// So many restarts with nothing acknowledged: the oldest records get other
		// ids, and those of them that were sent before may be stored twice.
		epochs = epochs[len(epochs)-maxEpochs:]
		// A stream must not go backwards.
		if epochs[0].stream, err = newStream(); err != nil {
			return nil, err
		}
	}
	return epochs, nil
}

// content is what one slot of the state file says.
type content struct {
	acked  uint64
	last   uint64 // index of the last record known to be synced; 0: not known
	epochs []epoch
}

// stateFile is the open state file, with its two slots. Spool.persisting guards it.
//
// Why one slot is always whole: write writes only into s.slot, and switches s.slot only
// after a sync has made that slot durable. So the other slot is durable, and has a valid
// checksum, whenever s.slot is being written: a power failure can tear at most one. Until
// a sync succeeds, every write goes into the same slot again. gen grows with every
// write, so that a reader takes the newer of two valid slots.
type stateFile struct {
	f    fsys.File
	gen  uint64 // generation of the last write
	slot int64  // the slot that is written next, 0 or 1
}

// openState opens or creates the state file and returns what its newer valid slot says;
// zero content when none is valid.
func openState(fs fsys.FS, path string) (_ *stateFile, c content, err error) {
	f, err := fs.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, c, fmt.Errorf("open state: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close())
		}
	}()
	size, err := f.Size()
	if err != nil {
		return nil, c, fmt.Errorf("open state: %w", err)
	}
	st := &stateFile{f: f}
	if size == 0 {
		if err = fs.SyncDir(filepath.Dir(path)); err != nil {
			return nil, c, fmt.Errorf("open state: %w", err)
		}
		return st, c, nil
	}
	ours := true // every byte that is there looks like a slot, or like nothing
	found := false
	for i := range int64(2) {
		var buf [slotSize]byte
		n, rerr := f.ReadAt(buf[:], i*slotSize)
		if rerr != nil && !errors.Is(rerr, io.EOF) {
			return nil, c, fmt.Errorf("read %s: %w", path, rerr)
		}
		got, gen, derr := decodeSlot(buf[:n])
		switch {
		case derr == nil && (!found || gen > st.gen):
			c, st.gen, st.slot, found = got, gen, 1-i, true
		case errors.Is(derr, ErrStateVersion):
			return nil, c, fmt.Errorf("%s: offset %d: %w", path, i*slotSize, derr)
		case errors.Is(derr, ErrState) && buf != [slotSize]byte{}:
			ours = false
		}
	}
	if !found && !ours {
		return nil, c, fmt.Errorf("%s: %w", path, ErrState)
	}
	// What is read may be in the page cache only, after a SIGKILL.
	if err = f.Datasync(); err != nil {
		return nil, c, fmt.Errorf("sync %s: %w", path, err)
	}
	// Neither slot whole: the machine stopped during the very first write, or both
	// are damaged. The log says what is there; all of it is sent again.
	return st, c, nil
}

var errSlot = errors.New("checksum mismatch")

// readState returns what the newer valid slot of a state file says; ok is false when none
// is valid. Another process may be writing the file.
func readState(f fsys.File) (c content, ok bool) {
	gen := uint64(0)
	for i := range int64(2) {
		var buf [slotSize]byte
		n, _ := f.ReadAt(buf[:], i*slotSize) // what can't be read is no slot
		if got, g, err := decodeSlot(buf[:n]); err == nil && (!ok || g > gen) {
			c, gen, ok = got, g, true
		}
	}
	return c, ok
}

func encodeSlot(c content, gen uint64) []byte {
	buf := make([]byte, slotSize)
	copy(buf, stateMagic[:])
	binary.LittleEndian.PutUint32(buf[8:], stateVersion)
	binary.LittleEndian.PutUint64(buf[16:], gen)
	binary.LittleEndian.PutUint64(buf[24:], c.acked)
	binary.LittleEndian.PutUint32(buf[32:], uint32(len(c.epochs)))
	if c.last >= c.acked && c.last-c.acked < math.MaxUint32 {
		binary.LittleEndian.PutUint32(buf[36:], uint32(c.last-c.acked)+1)
	}
	for i, e := range c.epochs {
		at := buf[slotHead+i*epochSize:]
		binary.LittleEndian.PutUint64(at, e.from)
		binary.LittleEndian.PutUint32(at[8:], e.base)
		copy(at[12:], e.stream[:])
	}
	binary.LittleEndian.PutUint32(buf[12:], slotSum(buf))
	return buf
}

// slotSum returns the CRC-32C of the whole slot, the checksum's own four bytes taken as zero.
func slotSum(buf []byte) uint32 {
	sum := crc32.Update(0, castagnoli, buf[:12])
	sum = crc32.Update(sum, castagnoli, []byte{0, 0, 0, 0})
	return crc32.Update(sum, castagnoli, buf[16:])
}

func decodeSlot(buf []byte) (c content, gen uint64, err error) {
	if len(buf) < 12 || [8]byte(buf[:8]) != stateMagic {
		return c, 0, ErrState
	}
	if v := binary.LittleEndian.Uint32(buf[8:]); v > stateVersion {
		return c, 0, fmt.Errorf("%w: version %d", ErrStateVersion, v)
	}
	if len(buf) != slotSize || binary.LittleEndian.Uint32(buf[12:]) != slotSum(buf) {
		return c, 0, errSlot
	}
	n, size := binary.LittleEndian.Uint32(buf[32:]), epochSize
	most := uint32(maxEpochs)
	if binary.LittleEndian.Uint32(buf[8:]) <= oldVersion {
		size, most = oldEpochSize, oldMaxEpochs
	}
	if n == 0 || n > most {
		return c, 0, fmt.Errorf("%d epochs: %w", n, errSlot)
	}
	c.acked = binary.LittleEndian.Uint64(buf[24:])
	if left := binary.LittleEndian.Uint32(buf[36:]); left > 0 {
		c.last = c.acked + uint64(left-1)
	}
	for i := range int(n) {
		at := buf[slotHead+i*size:]
		e := epoch{from: binary.LittleEndian.Uint64(at), base: binary.LittleEndian.Uint32(at[8:])}
		if size == epochSize {
			e.stream = StreamID(at[12:epochSize])
		}
		c.epochs = append(c.epochs, e)
	}
	if len(c.epochs) > maxEpochs { // of an older program; the oldest records get other ids
		c.epochs = c.epochs[len(c.epochs)-maxEpochs:]
	}
	return c, binary.LittleEndian.Uint64(buf[16:]), nil
}

// write writes c into the slot s.slot. If durable, it syncs the file and then switches to
// the other slot. After an error s.slot stays the same: that slot may be torn.
func (s *stateFile) write(c content, durable bool) error {
	s.gen++
	if _, err := s.f.WriteAt(encodeSlot(c, s.gen), s.slot*slotSize); err != nil {
		return fmt.Errorf("write state: %w", err)
	}
	if !durable {
		return nil
	}
	if err := s.f.Datasync(); err != nil {
		return fmt.Errorf("sync state: %w", err)
	}
	s.slot = 1 - s.slot
	return nil
}

func (s *stateFile) close() error {
	if s == nil || s.f == nil {
		return nil
	}
	f := s.f
	s.f = nil
	return f.Close()
}
