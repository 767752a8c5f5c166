package authority

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"strconv"
	"strings"
)

// What is wrong with a file of the folder.
var (
	// ErrForeign is returned for a file that is none of this kind.
	ErrForeign = errors.New("is not such a file")
	// ErrNewer is returned for a file of a newer program.
	ErrNewer = errors.New("was written by a newer version of this program: use that one")
	// ErrDamaged is returned for a file whose checksums do not hold.
	ErrDamaged = errors.New("is damaged: put a backup of it back, and write certificates that it lacks into the deny list by their serials")
)

// maxTable is the largest file that is read.
const maxTable = 64 << 20

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// FileError says in which file and line something is wrong.
type FileError struct {
	Path string
	Line int // from 1; 0: the file as a whole
	Why  string
	Err  error
}

// Error says where, what, and what to do.
func (e *FileError) Error() string {
	text := e.Path
	if e.Line > 0 {
		text += ":" + strconv.Itoa(e.Line)
	}
	if e.Why != "" {
		text += ": " + e.Why
	}
	return text + ": the file " + e.Err.Error()
}

// Unwrap returns ErrForeign, ErrNewer or ErrDamaged.
func (e *FileError) Unwrap() error { return e.Err }

// formatTable writes a file of lines: the first says what it is and of which CA, the last
// how many there are between, so that a file that was cut off shows. Each line ends with its
// checksum.
func formatTable(kind, ca string, rows [][]string) []byte {
	var b bytes.Buffer
	line := func(fields []string) {
		text := strings.Join(fields, "\t") + "\t"
		fmt.Fprintf(&b, "%s%08x\n", text, crc32.Checksum([]byte(text), castagnoli))
	}
	line([]string{kind, "1", ca})
	for _, r := range rows {
		line(r)
	}
	line([]string{"end", strconv.Itoa(len(rows))})
	return b.Bytes()
}

// parseTable reads such a file. The number of fields that each row must have is checked.
func parseTable(path, kind, ca string, columns int, data []byte) ([][]string, error) {
	wrong := func(line int, err error, why string, args ...any) ([][]string, error) {
		return nil, &FileError{Path: path, Line: line, Why: fmt.Sprintf(why, args...), Err: err}
	}
	first, _, _ := bytes.Cut(data, []byte("\n"))
	head := strings.Split(string(first), "\t")
	switch {
	case head[0] != kind:
		return wrong(0, ErrForeign, "it does not begin with %s", kind)
	case len(head) > 1 && head[1] != "1":
		if n, err := strconv.ParseUint(head[1], 10, 31); err == nil && n > 1 {
			return wrong(1, ErrNewer, "")
		}
		return wrong(1, ErrDamaged, "no version")
	}
	var rows [][]string
	number, ended := 0, false
	for line := range bytes.Lines(data) {
		number++
		text, ok := bytes.CutSuffix(line, []byte("\n"))
		cut := bytes.LastIndexByte(text, '\t') + 1
		if sum := fmt.Sprintf("%08x", crc32.Checksum(text[:cut], castagnoli)); !ok || cut == 0 || string(text[cut:]) != sum || ended {
			return wrong(number, ErrDamaged, "its checksum does not hold")
		}
		fields := strings.Split(string(text[:cut-1]), "\t")
		switch {
		case number == 1:
			if len(fields) != 3 || fields[2] != ca {
				return wrong(1, ErrForeign, "it is another CA's")
			}
		case fields[0] == "end":
			if ended = true; len(fields) != 2 || fields[1] != strconv.Itoa(len(rows)) {
				return wrong(number, ErrDamaged, "lines are missing")
			}
		case len(fields) != columns:
			return wrong(number, ErrDamaged, "it has %d fields, not %d", len(fields), columns)
		default:
			rows = append(rows, fields)
		}
	}
	if !ended {
		return wrong(number, ErrDamaged, "its end is missing")
	}
	return rows, nil
}
