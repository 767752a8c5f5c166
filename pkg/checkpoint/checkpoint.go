package checkpoint

import (
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// MaxBytes bounds the text of a checkpoint, with all its signatures.
const MaxBytes = 16 << 10

// Errors of Open. Each is wrapped with what is wrong where.
var (
	// ErrFormat: the text is no checkpoint.
	ErrFormat = errors.New("not a checkpoint")
	// ErrSignature: a checkpoint by its form, and a signature that one of the keys should have
	// made is not its.
	ErrSignature = errors.New("the signature is wrong")
	// ErrKey: none of the keys has signed it.
	ErrKey = errors.New("signed by none of the keys given")
)

// Checkpoint is a log at one moment.
type Checkpoint struct {
	Origin string    // which log: the name of the key that signs it
	Size   int64     // how many leaves it has
	Root   tlog.Hash // of the tree of these leaves
	Time   time.Time // when it was signed, by the clock of who signed; in seconds
	Store  string    // the ID of the collector's store, 32 hexadecimal digits
	// Epoch is how often a person has accepted that the log does not go on from what was signed before:
	// after a restore from a backup, say. A log of another epoch is not compared by its leaves.
	Epoch int64
}

// The first words of the two lines that follow those of every tlog-checkpoint.
const (
	timeLine  = "time "
	storeLine = "store "
	epochLine = "epoch " // missing where it is 0
)

// Text returns what is signed: without signatures.
func (c Checkpoint) Text() string {
	text := fmt.Sprintf("%s\n%d\n%s\n%s%s\n%s%s\n", c.Origin, c.Size, c.Root, timeLine, c.Time.UTC().Format(time.RFC3339), storeLine, c.Store)
	if c.Epoch != 0 {
		text += fmt.Sprintf("%s%d\n", epochLine, c.Epoch)
	}
	return text
}

// check returns what is wrong with a checkpoint that is to be signed or was read.
func (c Checkpoint) check() error {
	switch {
	case !validName(c.Origin):
		return fmt.Errorf("%w: its origin %.80q is no name of a key", ErrFormat, c.Origin)
	case c.Size < 0 || c.Epoch < 0:
		return fmt.Errorf("%w: its size is %d", ErrFormat, c.Size)
	case c.Time.Year() < 1970 || c.Time.Year() > 9999:
		return fmt.Errorf("%w: its time is %v", ErrFormat, c.Time)
	case !validStore(c.Store):
		return fmt.Errorf("%w: %.80q is no store's ID, 32 hexadecimal digits", ErrFormat, c.Store)
	}
	return nil
}

// Sign returns the checkpoint's text with the signer's signature. Its origin must be the signer's
// name: a key signs one log.
func Sign(c Checkpoint, signer note.Signer) ([]byte, error) {
	if err := c.check(); err != nil {
		return nil, fmt.Errorf("sign a checkpoint: %w", err)
	}
	if c.Origin != signer.Name() {
		return nil, fmt.Errorf("sign a checkpoint: it is of the log %q, the key is %q's", c.Origin, signer.Name())
	}
	text, err := note.Sign(&note.Note{Text: c.Text()}, signer)
	if err != nil {
		return nil, fmt.Errorf("sign a checkpoint: %w", err)
	}
	return text, nil
}

// Open reads a checkpoint that the key of its log has signed. Signatures of others, which may
// stand beside it, count for nothing; nor do lines behind those that are known. Errors: ErrFormat,
// ErrSignature, ErrKey.
func Open(text []byte, verifiers note.Verifiers) (Checkpoint, error) {
	if len(text) > MaxBytes {
		return Checkpoint{}, fmt.Errorf("%w: %d bytes, at most %d are read", ErrFormat, len(text), MaxBytes)
	}
	if strings.Contains(string(text), "\r\n") {
		return Checkpoint{}, fmt.Errorf("%w: its lines end in CR LF, and were signed with LF: bring them back (dos2unix)", ErrFormat)
	}
	n, err := note.Open(text, verifiers)
	var unverified *note.UnverifiedNoteError
	var invalid *note.InvalidSignatureError
	switch {
	case errors.As(err, &unverified):
		c, perr := Parse(text)
		if perr != nil {
			return Checkpoint{}, perr
		}
		return Checkpoint{}, fmt.Errorf("%w: it is of %q, signed by %s", ErrKey, c.Origin, signers(unverified.Note))
	case errors.As(err, &invalid):
		return Checkpoint{}, fmt.Errorf("%w: it is not that of the key %s+%08x", ErrSignature, invalid.Name, invalid.Hash)
	case err != nil:
		return Checkpoint{}, fmt.Errorf("%w: %s", ErrFormat, strings.TrimPrefix(err.Error(), "note: "))
	}
	c, err := parse(n.Text)
	if err != nil {
		return Checkpoint{}, err
	}
	for _, s := range n.Sigs {
		// One signature has one text, too: the last digit has bits that count for nothing.
		if _, err := base64.StdEncoding.Strict().DecodeString(s.Base64); err != nil {
			return Checkpoint{}, fmt.Errorf("%w: the signature of %s+%08x: %w", ErrFormat, s.Name, s.Hash, err)
		}
	}
	if !slices.ContainsFunc(n.Sigs, func(s note.Signature) bool { return s.Name == c.Origin }) {
		return Checkpoint{}, fmt.Errorf("%w: it is of %q, and the key given is of %q", ErrKey, c.Origin, n.Sigs[0].Name)
	}
	return c, nil
}

// Parse reads a checkpoint without a look at its signatures: what it says is nobody's word. Error:
// ErrFormat.
func Parse(text []byte) (Checkpoint, error) {
	if len(text) > MaxBytes {
		return Checkpoint{}, fmt.Errorf("%w: %d bytes, at most %d are read", ErrFormat, len(text), MaxBytes)
	}
	body, _, ok := strings.Cut(string(text), "\n\n")
	if !ok {
		return Checkpoint{}, fmt.Errorf("%w: no empty line between what is signed and its signatures", ErrFormat)
	}
	return parse(body + "\n")
}

// parse reads what is signed. Of each number and name there is one way to write it, so that one
// checkpoint has one text.
func parse(text string) (c Checkpoint, err error) {
	lines := strings.Split(text, "\n")
	if len(lines) < 6 {
		return Checkpoint{}, fmt.Errorf("%w: %d lines before its signatures, there are 5 at least", ErrFormat, len(lines)-1)
	}
	c.Origin = lines[0]
	if c.Size, err = strconv.ParseInt(lines[1], 10, 64); err != nil || strconv.FormatInt(c.Size, 10) != lines[1] {
		return Checkpoint{}, fmt.Errorf("%w: line 2, %.40q, is no number of leaves", ErrFormat, lines[1])
	}
	if c.Root, err = tlog.ParseHash(lines[2]); err != nil || c.Root.String() != lines[2] {
		return Checkpoint{}, fmt.Errorf("%w: line 3, %.80q, is no root of a tree", ErrFormat, lines[2])
	}
	at, ok := strings.CutPrefix(lines[3], timeLine)
	if c.Time, err = time.Parse(time.RFC3339, at); !ok || err != nil || c.Time.UTC().Format(time.RFC3339) != at {
		return Checkpoint{}, fmt.Errorf("%w: line 4, %.80q, is not %q and a time of day", ErrFormat, lines[3], timeLine)
	}
	c.Time = c.Time.UTC()
	if c.Store, ok = strings.CutPrefix(lines[4], storeLine); !ok {
		return Checkpoint{}, fmt.Errorf("%w: line 5, %.80q, is not %q and an ID", ErrFormat, lines[4], storeLine)
	}
	if n, ok := strings.CutPrefix(lines[5], epochLine); ok {
		if c.Epoch, err = strconv.ParseInt(n, 10, 64); err != nil || c.Epoch == 0 || strconv.FormatInt(c.Epoch, 10) != n {
			return Checkpoint{}, fmt.Errorf("%w: line 6, %.40q, is no epoch", ErrFormat, lines[5])
		}
	}
	if err := c.check(); err != nil {
		return Checkpoint{}, err
	}
	return c, nil
}

// signers names the keys that a note says it is signed by.
func signers(n *note.Note) string {
	var names []string
	for _, s := range n.UnverifiedSigs {
		names = append(names, fmt.Sprintf("%s+%08x", s.Name, s.Hash))
	}
	return strings.Join(names, ", ")
}

// validStore reports whether id is as stores' IDs are written.
func validStore(id string) bool {
	return len(id) == 32 && strings.Trim(id, "0123456789abcdef") == ""
}
