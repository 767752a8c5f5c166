package interpret

import "strings"

// ttyKeys is what the keys of a terminal send behind an escape character: of
// xterm, the Linux console, rxvt, vt220, SCO and Sun ones (terminfo(5)).
const ttyKeys = `
A1 Ow
A3 Oy
B2 OE Or Ou [218z [E [G
C1 Op Oq
C3 On Os
back-tab [Z
clear J
copy [197z
delete P [3z [3~ [9
delete-eol [8^
down B OB [B
end F OF [220z [4~ [8~ [F
find [200z
help [196z
home OH [1~ [214z [7~ [H h
insert Q [2z [2~ [L
insert-line [30~
left D OD [D
mouse [>M [M
options [194z
page-down S [222z [6~
page-up T [216z [5~ [I
resume [193z
right C OC [C
scroll-backward O2A [1;2A
scroll-forward O2B [1;2B
send OM
shift-del [3$ [3;2~ [3;5~
shift-end O5F [1;2F [8$
shift-home O5H [1;2H [7$
shift-insert 2$ [2$ [2;2~ [2;5~
shift-left O2D O5D [1;2D [d
shift-next [6$ [6;2~ [6;5~
shift-previous [5$ [5;2~ [5;5~
shift-right O2C O5C [1;2C [c
undo [195z
up A OA [A
F1 OP [11~ [224z [[A p
F2 OQ [12~ [225z [N [[B q
F3 OR [13~ [226z [O [[C r
F4 OS [14~ [227z [P [[D s
F5 OT Ot [15~ [228z [Q [[E t
F6 OU [17~ [229z [R u
F7 OV Ov [18~ [230z [S v
F8 OW Ol [19~ [231z [T w
F9 OX [20~ [232z [U
F10 OY Ox [21~ [233z [V
F11 OZ [192z [234z [23~ [W
F12 O[ [235z [24~ [X
F13 O2P [11;2~ [25~ [Y
F14 O2Q [12;2~ [26~
F15 O2R [13;2~ [28~ [a
F16 O2S [14;2~ [29~ [b
F17 [15;2~ [198z [31~
F18 [17;2~ [199z [32~
F19 [18;2~ [33~ [e
F20 [19;2~ [201z [34~ [f
F21 [20;2~ [23$ [g
F22 [21;2~ [24$ [h
F23 [11^ [23;2~ [i
F24 [12^ [24;2~ [j
F25 O5P [11;5~ [13^ [k
F26 O5Q [12;5~ [14^ [l
F27 O5R [13;5~ [15^ [m
F28 O5S [14;5~ [17^ [n
F29 [15;5~ [18^ [o
F30 [17;5~ [19^ [p
F31 [18;5~ [208z [20^ [q
F32 [19;5~ [209z [21^ [r
F33 [20;5~ [210z [23^ [s
F34 [211z [21;5~ [24^ [t
F35 [212z [23;5~ [25^ [u
F36 [213z [24;5~ [26^ [v
F37 O6P [11;6~ [28^ [w
F38 O6Q [12;6~ [215z [29^ [x
F39 O6R [13;6~ [31^ [y
F40 O6S [14;6~ [217z [32^ [z
F41 [15;6~ [33^ [@
F42 [17;6~ [219z [34^ [[
F43 [18;6~ [23@ [\
F44 [19;6~ [221z [24@ []
F45 [20;6~ [^
F46 [21;6~ [_
F47 [23;6~
F48 [24;6~ [{
F49 O3P [11;3~
F50 O3Q [12;3~
F51 O3R [13;3~
F52 O3S [14;3~
F53 [15;3~
F54 [17;3~
F55 [18;3~
F56 [19;3~
F57 [20;3~
F58 [21;3~
F59 [23;3~
F60 [24;3~
F61 O4P [11;4~
F62 O4Q [12;4~
F63 O4R [13;4~
`

// keys are the input sequences that have names.
var keys = readKeys()

func readKeys() map[string]string {
	m := map[string]string{"\b": "backspace", "\t": "tab", "\n": "nl", "\r": "ret", "\x1b": "esc", "\x7f": "backspace"}
	for c := byte(1); c <= 26; c++ {
		if _, ok := m[string(c)]; !ok {
			m[string(c)] = "^" + string('A'+c-1)
		}
	}
	m["\x1b[`"], m["\x1b\t"] = "F47", "back-tab"
	for line := range strings.Lines(ttyKeys) {
		words := strings.Fields(line)
		for _, seq := range words[min(1, len(words)):] {
			m["\x1b"+seq] = words[0]
			if n := len(seq); n > 2 && seq[0] == '[' && seq[n-1] == '~' && !strings.Contains(" 7 8 30 ", " "+seq[1:n-1]+" ") &&
				strings.Trim(seq[1:n-1], "0123456789") == "" {
				m["\x9b"+seq[1:]] = words[0] // the same in one byte, of a terminal in 8-bit mode
			}
		}
	}
	for c, name := range map[string]string{
		"\x9bM": "mouse", "\x9bZ": "back-tab", "\x8fA": "up", "\x8fB": "down", "\x8fC": "right", "\x8fD": "left", "\x8fE": "begin",
		"\x8fM": "send", "\x8fq": "C1", "\x8fs": "C3", "\x8fu": "A3", "\x8fw": "A1", "\x8fy": "B2",
	} {
		m[c] = name
	}
	return m
}

// noData is written when nothing was typed.
const noData = "(null)"

// longestKey is the longest sequence in keys.
const longestKey = len("\x1b[11;2~")

// appendTTY appends what was typed: <names> of keys, and "text".
func appendTTY(dst, v []byte) []byte {
	n := HexLen(v)
	if n < len(v) {
		return append(dst, v...)
	}
	if n < 2 {
		return append(dst, noData...)
	}
	data := make([]byte, 0, n/2)
	for i := 0; i+1 < n; i += 2 {
		data = append(data, HexByte(v, i))
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
	if data[0] >= ' ' && data[0] < 0x7f {
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
