package interpret

import "strconv"

// keys are the input sequences of terminals that have names: what the keys of
// xterm, the Linux console, rxvt and the vt series send (terminfo(5)).
var keys = ttyKeys()

func ttyKeys() map[string]string {
	m := map[string]string{"\b": "backspace", "\t": "tab", "\n": "nl", "\r": "ret", "\x1b": "esc", "\x7f": "backspace"}
	for c := byte(1); c <= 26; c++ {
		if _, ok := m[string(c)]; !ok {
			m[string(c)] = "^" + string('A'+c-1)
		}
	}
	last := func(prefix, chars string, names ...string) {
		for i, name := range names {
			m[prefix+chars[i:i+1]] = name
		}
	}
	last("\x1b[", "9@ABCDEFGHILMZ", "delete", "F41", "up", "down", "right", "left", "B2", "end", "B2", "home",
		"page-up", "insert", "mouse", "back-tab")
	last("\x1b[", "cd", "shift-right", "shift-left")
	last("\x1bO", "ABCDEFHMlnpqrstuvwxy", "up", "down", "right", "left", "B2", "end", "home", "send",
		"F8", "C3", "C1", "C1", "B2", "C3", "F5", "B2", "F7", "A1", "F10", "A3")
	functionKeys(m)
	for suffix, name := range map[string]string{
		"1~": "home", "2~": "insert", "3~": "delete", "4~": "end", "5~": "page-up", "6~": "page-down", "7~": "home", "8~": "end",
		"2;2~": "shift-insert", "2;5~": "shift-insert", "3;2~": "shift-del", "3;5~": "shift-del",
		"5;2~": "shift-previous", "5;5~": "shift-previous", "6;2~": "shift-next", "6;5~": "shift-next",
		"30~": "insert-line", "1;2A": "scroll-backward", "1;2B": "scroll-forward", "1;2C": "shift-right", "1;2D": "shift-left",
		"1;2F": "shift-end", "1;2H": "shift-home",
	} {
		m["\x1b["+suffix] = name
	}
	return m
}

// functionKeys adds F1 to F63.
func functionKeys(m map[string]string) {
	f := func(seq string, n int) {
		if _, ok := m[seq]; !ok {
			m[seq] = "F" + strconv.Itoa(n)
		}
	}
	for i := range 5 { // Linux console
		f("\x1b[["+string(rune('A'+i)), i+1)
	}
	for i := range 12 { // vt100, xterm
		f("\x1bO"+string(rune('P'+i)), i+1)
	}
	for i := range 12 { // sco
		f("\x1b["+string(rune('M'+i)), i+1)
	}
	for i := range 2 {
		f("\x1b["+string(rune('Y'+i)), i+13)
	}
	for c, n := 'a', 15; c <= 'z'; c, n = c+1, n+1 {
		f("\x1b["+string(c), n)
	}
	for i, c := range "@[\\]^_`{" {
		f("\x1b["+string(c), i+41)
	}
	numbers := []int{11, 12, 13, 14, 15, 17, 18, 19, 20, 21, 23, 24, 25, 26, 28, 29, 31, 32, 33, 34} // vt220
	for i, n := range numbers {
		seq := "\x1b[" + strconv.Itoa(n)
		f(seq+"~", i+1)
		if i >= 12 {
			continue
		}
		for mod, base := range map[string]int{";2~": 13, ";5~": 25, ";6~": 37, ";3~": 49} { // xterm's modifiers
			f(seq+mod, base+i)
		}
		if i < 3 {
			f(seq+";4~", 61+i)
		}
	}
}

// noData stands for nothing typed.
const noData = "(null)"

// longestKey is the longest sequence in keys.
const longestKey = len("\x1b[11;2~")

// appendTTY appends what was typed: <names> of keys, and "text".
func appendTTY(dst, v []byte) []byte {
	n := hexLen(v)
	if n < len(v) {
		return append(dst, v...)
	}
	if n < 2 {
		return append(dst, noData...)
	}
	data := make([]byte, 0, n/2)
	for i := 0; i+1 < n; i += 2 {
		data = append(data, hexByte(v, i))
	}
	text := false // within quotes
	for i := 0; i < len(data); {
		name, n := keyAt(data[i:])
		if (n > 0) == text || i == 0 {
			if text {
				dst = append(dst, '"')
			}
			if i > 0 {
				dst = append(dst, ',')
			}
			if text = n == 0; text {
				dst = append(dst, '"')
			}
		} else if n > 0 {
			dst = append(dst, ',')
		}
		if n > 0 {
			dst = append(append(append(dst, '<'), name...), '>')
			i += n
			continue
		}
		dst = appendTyped(dst, data[i])
		i++
	}
	if text {
		dst = append(dst, '"')
	}
	return dst
}

func keyAt(data []byte) (string, int) {
	if data[0] >= ' ' && data[0] != 0x7f {
		return "", 0
	}
	for n := min(longestKey, len(data)); n > 0; n-- {
		if name, ok := keys[string(data[:n])]; ok {
			return name, n
		}
	}
	return "", 0
}

func appendTyped(dst []byte, c byte) []byte {
	switch {
	case c == '"' || c == '\\':
		return append(dst, '\\', c)
	case c < ' ' || c >= 0x80:
		return append(dst, '\\', '0'+c>>6, '0'+c>>3&7, '0'+c&7)
	}
	return append(dst, c)
}
