package interpret

// maxPathName is the kernel's limit of a path with its NUL.
const maxPathName = 4096

// AppendPath appends to dst the absolute path of a file. name is its name and cwd the
// working directory, both in the form of a record, quoted or in hex. Without a cwd (nil)
// it appends the name. It removes "." and ".." and changes nothing else; it does not
// resolve links.
func (in *Interpreter) AppendPath(dst, name, cwd []byte) []byte {
	from := len(dst)
	dst = appendUntrusted(dst, name)
	if cwd == nil || len(dst) > from && dst[from] == '/' && !hasDotDot(dst[from:]) {
		return escapeFrom(dst, from, in.escape, false)
	}
	if len(dst) == from || dst[from] != '/' {
		in.path = append(in.path[:0], dst[from:]...)
		dst = append(appendUntrusted(dst[:from], cwd), '/')
		dst = append(dst, in.path...)
	}
	in.path = append(in.path[:0], dst[from:]...)
	if len(in.path) > 0 && in.path[0] != '.' {
		dst = appendCleanPath(dst[:from], in.path)
	}
	return escapeFrom(dst, from, in.escape, false)
}

func hasDotDot(path []byte) bool {
	for i := 1; i < len(path); i++ {
		if path[i] == '.' && path[i-1] == '.' {
			return true
		}
	}
	return false
}

// appendCleanPath appends an absolute path without ".", ".." and empty parts.
func appendCleanPath(dst, path []byte) []byte {
	from := len(dst)
	dst = append(dst, '/')
	for len(path) > 0 {
		end := 0
		for end < len(path) && path[end] != '/' {
			end++
		}
		part := path[:end]
		path = path[min(end+1, len(path)):]
		switch string(part) {
		case "", ".":
		case "..":
			for len(dst) > from+1 {
				dst = dst[:len(dst)-1]
				if dst[len(dst)-1] == '/' {
					break
				}
			}
			// Behind a name there is no slash, so what is left ends in one: take it off,
			// but for the root's.
			if len(dst) > from+1 {
				dst = dst[:len(dst)-1]
			}
		default:
			if dst[len(dst)-1] != '/' {
				dst = append(dst, '/')
			}
			if len(dst)-from+len(part) >= maxPathName {
				return dst
			}
			dst = append(dst, part...)
		}
	}
	return dst
}
