package interpret

// kindIndex maps a field's name to its Kind. It is used once or twice for every field of
// every record, so it is a hash table that reads only four bytes of the name; it is four
// times as fast as a map.
type kindIndex [512]struct {
	name string
	kind Kind
}

var kindsByName = newKindIndex()

func newKindIndex() *kindIndex {
	x := new(kindIndex)
	for name, kind := range kinds {
		i := slot([]byte(name))
		for x[i].name != "" {
			i = (i + 1) % uint32(len(x))
		}
		x[i].name, x[i].kind = name, kind
	}
	return x
}

func slot(name []byte) uint32 {
	n := len(name)
	h := uint32(n)*31 + uint32(name[0])*131 + uint32(name[n/2])*1031 + uint32(name[n-1])*7919
	return h % uint32(len(kindIndex{}))
}

// of returns Plain for a name that is none of kinds.
func (x *kindIndex) of(name []byte) Kind {
	if len(name) < 2 {
		return Plain
	}
	for i := slot(name); ; i = (i + 1) % uint32(len(x)) {
		if x[i].name == string(name) {
			return x[i].kind
		}
		if x[i].name == "" {
			return Plain
		}
	}
}
