package evidence

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/auditfleet/auditfleet/collector/internal/eventtree"
	"github.com/auditfleet/auditfleet/collector/internal/seal"
	"github.com/auditfleet/auditfleet/collector/internal/store/group"
)

// Bounds of what is kept of one batch, whatever a bundle says: of its sections at rest, of a part of one unpacked, and of a
// frame, at rest and unpacked. Whose batch it is has been proved before anything is unpacked.
const (
	maxHeads = 256 << 20
	maxPart  = 64 << 20
	maxFrame = maxText + 1<<20
)

// pieceFile is the file of pieces, which proofs use up from its begin to its end.
type pieceFile struct {
	file     *os.File
	at, size int64
	codec    *group.Codec
}

// shownFrame is a frame of a batch: where its piece lies, and its hash.
type shownFrame struct {
	at, length int64
	hash       eventtree.Hash
}

// openPieces opens the file of pieces, once.
func (v *verifier) openPieces() error {
	if v.pieces != nil {
		return nil
	}
	if v.format < 2 {
		return fmt.Errorf("it has pieces, and a bundle of version %d has none", v.format)
	}
	f, size, err := v.open(Pieces)
	if err != nil {
		return err
	}
	codec, err := group.NewReader(1, maxFrame, maxPart)
	if err != nil {
		return errors.Join(err, f.Close())
	}
	v.pieces = &pieceFile{file: f, size: size, codec: codec}
	return nil
}

// allPieces checks that the proofs have used all pieces: what nothing vouches for is no part of a bundle.
func (v *verifier) allPieces() error {
	if v.format < 2 {
		return nil
	}
	if err := v.openPieces(); err != nil {
		return err
	}
	if left := v.pieces.size - v.pieces.at; left > 0 {
		return changed("%s has %d bytes of which no proof says anything", Pieces, left)
	}
	return nil
}

// byPieces checks a proof that shows pieces of the batch: that they are the batch's, and that the events lie in them.
func (v *verifier) byPieces(p *Proof, in []placed, tree []eventtree.Hash, leaf *seal.Leaf) error {
	_, err := v.inGroup(p, in, tree, &seal.MadeGroup{Hash: leaf.Hash, Pieces: leaf.Pieces, Size: leaf.Size, Events: leaf.Events})
	return err
}

// inGroup checks that pieces are those of a group, of which is says what the leaf has, and that the events lie in them.
func (v *verifier) inGroup(p *Proof, in []placed, tree []eventtree.Hash, is *seal.MadeGroup) (*group.Shown, error) {
	if err := v.openPieces(); err != nil {
		return nil, err
	}
	known, shown, frames, err := v.pieces.read(p)
	if err != nil {
		return nil, err
	}
	if is.Pieces == 0 || is.Pieces != uint64(p.Of) {
		return nil, fmt.Errorf("its leaf is of %d pieces, and not of %d", is.Pieces, p.Of)
	}
	root, err := eventtree.Root(p.Of, known, tree)
	switch {
	case err != nil:
		return nil, err
	case root != is.Hash:
		return nil, fmt.Errorf("its pieces in %s are not those of the batch", Pieces)
	}
	if err := shown.Open(is.Pieces, is.Size, is.Events); err != nil {
		return nil, err
	}
	return shown, v.pieces.find(in, shown, frames)
}

// read reads the pieces of a proof, hashes all of them, and keeps the sections.
func (f *pieceFile) read(p *Proof) (known []eventtree.Known, shown *group.Shown, frames map[int64]shownFrame, err error) {
	sha, hasher, heads := sha256.New(), eventtree.Hasher{}, int64(0)
	frames = map[int64]shownFrame{}
	for i, x := range p.Pieces {
		if len(x) != 3 || x[1] != f.at || x[2] < 0 || x[2] > f.size-f.at || i == 0 && x[0] != 0 || i > 0 && x[0] <= p.Pieces[i-1][0] {
			return nil, nil, nil, fmt.Errorf("a piece %v: those before end at %d of %d in %s", x, f.at, f.size, Pieces)
		}
		number, length := x[0], x[2]
		part := io.NewSectionReader(f.file, f.at, length)
		f.at += length
		one := eventtree.Known{Ordinal: number}
		if shown != nil && shown.IsFrame(number) {
			sha.Reset()
			sha.Write([]byte{0})
			if _, err := io.Copy(sha, part); err != nil {
				return nil, nil, nil, err
			}
			one.Hash = eventtree.Hash(sha.Sum(nil))
			frames[number] = shownFrame{x[1], length, one.Hash}
			known = append(known, one)
			continue
		}
		if heads += length; heads > maxHeads {
			return nil, nil, nil, fmt.Errorf("its sections have more than %d bytes", maxHeads)
		}
		b := make([]byte, length)
		if _, err := io.ReadFull(part, b); err != nil {
			return nil, nil, nil, err
		}
		if one.Hash = hasher.Piece(b); number == 0 {
			shown, err = f.codec.OpenShown(b)
		} else {
			err = shown.Add(number, b)
		}
		if err != nil {
			return nil, nil, nil, fmt.Errorf("piece %d: %w", number, err)
		}
		known = append(known, one)
	}
	return known, shown, frames, nil
}

// find looks for the events in the frames.
func (f *pieceFile) find(in []placed, shown *group.Shown, frames map[int64]shownFrame) error {
	var hasher, pieces eventtree.Hasher
	var buf []byte
	has := func(piece int64) bool { _, ok := frames[piece]; return ok }
	read := func(piece int64) ([]byte, error) {
		x := frames[piece]
		if x.length > maxFrame {
			return nil, fmt.Errorf("piece %d has %d bytes, and would have %d at most", piece, x.length, int64(maxFrame))
		}
		if int64(cap(buf)) < x.length {
			buf = make([]byte, x.length)
		}
		buf = buf[:x.length]
		if _, err := f.file.ReadAt(buf, x.at); err != nil {
			return nil, err
		}
		if pieces.Piece(buf) != x.hash {
			return nil, fmt.Errorf("%s is changed while it is read", Pieces)
		}
		return buf, nil
	}
	next := 0 // both come by ordinals
	err := shown.Events(has, read, func(ordinal int64, e *eventtree.Event) error {
		if next == len(in) || ordinal != in[next].ordinal {
			return nil
		}
		if hasher.Event(e) != in[next].hash {
			return fmt.Errorf("a record of lines %d of %s was changed, or what is said of it: the batch does not have it so", in[next].n, Events)
		}
		next++
		return nil
	})
	if err == nil && next < len(in) {
		err = fmt.Errorf("its pieces have no event %d, which line %d of %s is said to be", in[next].ordinal, in[next].n, Events)
	}
	return err
}
