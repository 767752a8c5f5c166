package boot

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/auditfleet/auditfleet/pkg/fsys"
)

// DefaultNote is where the note of the present boot is kept.
const DefaultNote = "/run/auditfleet-forwarder.boot"

// How long the note's lock is waited for, two seconds in all.
const (
	lockPause = 5 * time.Millisecond
	lockTries = 400
)

// Enabling says what is known of when auditing was first on in this boot.
type Enabling uint8

const (
	Never    Enabling = iota // nothing is noted
	Switched                 // it was off, and was switched on at that time by a program of ours
	Found                    // it was on when a program of ours first looked, at that time
)

var enablingWords = [...]string{"never", "switched", "found"}

func (e Enabling) String() string { return enablingWords[e] }

// Note is what this project's programs have stored about the present boot.
type Note struct {
	Enabling Enabling
	Since    time.Duration // when that was, after the boot
	// Said says whether the forwarder, as the audit daemon, has reported the kernel's
	// losses: up to Lost on the kernel's counter, the last time at At.
	Said bool
	Lost uint32
	At   time.Time
}

// ErrNote is returned for a file that begins otherwise than a note does.
var ErrNote = errors.New("is no note of a boot: remove it")

const (
	noteHeader = "auditfleet-boot 1"
	// boot; what is known of the enabling and when, in nanoseconds since the boot;
	// whether losses were said, the kernel's counter then, and when, in nanoseconds
	// since 1970.
	noteFormat = noteHeader + " %s %-8s %019d %-4s %010d %019d\n"
)

// Notes names the file that stores the note.
type Notes struct {
	Root string
	Path string // below Root; "": nothing is kept
}

// Read returns the note of the present boot: a zero one when there is none.
func (n Notes) Read() (Note, error) {
	if n.Path == "" {
		return Note{}, nil
	}
	id, err := ID(n.Root)
	if err != nil {
		return Note{}, err
	}
	f, err := fsys.OpenOwn(filepath.Join(n.Root, n.Path), os.O_RDONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return Note{}, nil
	}
	if err != nil {
		return Note{}, err
	}
	note, err := readNote(f, id)
	return note, errors.Join(err, f.Close())
}

// Update calls f with the present note and writes what f has changed; it writes nothing
// when f changes nothing. Several programs may call it at once: a lock on another file
// makes them take turns.
func (n Notes) Update(f func(*Note)) (err error) {
	if n.Path == "" {
		return nil
	}
	id, err := ID(n.Root)
	if err != nil {
		return err
	}
	lock, err := lockNote(filepath.Join(n.Root, n.Path) + ".lock")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	file, err := fsys.OpenOwn(filepath.Join(n.Root, n.Path), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	note, err := readNote(file, id)
	if err != nil {
		return err
	}
	was := note
	if f(&note); note == was {
		return nil
	}
	said := "none"
	if note.Said {
		said = "said"
	}
	at := int64(0)
	if !note.At.IsZero() {
		at = note.At.UnixNano()
	}
	_, err = file.WriteAt(fmt.Appendf(nil, noteFormat, id, note.Enabling, note.Since, said, note.Lost, at), 0)
	return err
}

// lockNote waits for a file of its own: whoever may read a file may hold flock(2) on
// it, and everybody may read the note. Its holders do no more than Update does, so
// one that keeps it for longer has been stopped.
func lockNote(path string) (fsys.Locked, error) {
	lock, err := fsys.OpenOwn(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fsys.Locked{}, err
	}
	for tries := 0; ; tries++ {
		err := fsys.TryLock(lock, true)
		switch {
		case err == nil:
			return fsys.Locked{File: lock}, nil
		case errors.Is(err, fsys.ErrLocked) && tries < lockTries:
			time.Sleep(lockPause)
		default:
			return fsys.Locked{}, errors.Join(fmt.Errorf("%s: %w: another program holds it", path, err), lock.Close())
		}
	}
}

func readNote(f *os.File, id string) (Note, error) {
	text, err := io.ReadAll(io.LimitReader(f, 256))
	if err != nil {
		return Note{}, err
	}
	if len(bytes.Trim(text, "\x00")) > 0 && !bytes.HasPrefix(text, []byte(noteHeader+" ")) {
		return Note{}, fmt.Errorf("%s %w", f.Name(), ErrNote)
	}
	return parseNote(string(text), id), nil
}

// parseNote returns a zero note for a line of another boot, or one that is cut short.
func parseNote(text, id string) Note {
	var boot, enabling, said string
	var since, at int64
	var lost uint32
	n, _ := fmt.Sscanf(text, noteHeader+" %s %s %d %s %d %d\n", &boot, &enabling, &since, &said, &lost, &at)
	if n != 6 || boot != id || since < 0 {
		return Note{}
	}
	note := Note{Since: time.Duration(since), Said: said == "said", Lost: lost}
	for i, word := range enablingWords {
		if word == enabling {
			note.Enabling = Enabling(i)
		}
	}
	if at != 0 {
		note.At = time.Unix(0, at)
	}
	return note
}

// Enabled stores in the note that auditing is on now; switched says whether the caller has
// just switched it on. Only the first call in a boot changes the note.
func (n Notes) Enabled(switched bool) error {
	since, err := Uptime(n.Root)
	if err != nil {
		return err
	}
	return n.Update(func(note *Note) {
		if note.Enabling != Never {
			return
		}
		note.Enabling, note.Since = Found, since
		if switched {
			note.Enabling = Switched
		}
	})
}

// ID returns the kernel's random name of the present boot (boot_id).
func ID(root string) (string, error) {
	path := filepath.Join(root, "/proc/sys/kernel/random/boot_id")
	b, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	id := strings.TrimSpace(string(b))
	if id == "" || strings.ContainsAny(id, " \n") {
		return "", fmt.Errorf("%s: %q is no name of a boot", path, b)
	}
	return id, nil
}

// Uptime returns how long ago the machine booted, times of suspension included.
func Uptime(root string) (time.Duration, error) {
	path := filepath.Join(root, "/proc/uptime")
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	var seconds float64
	if _, err := fmt.Sscan(string(b), &seconds); err != nil {
		return 0, fmt.Errorf("%s: %q: %w", path, b, err)
	}
	return time.Duration(seconds * float64(time.Second)), nil
}
