package interpret

// Names says who and what a number is. Its methods must not wait for long on a
// network: pkg/nss has this machine's.
type Names interface {
	User(uid uint32) (string, bool)
	Group(gid uint32) (string, bool)
	Protocol(n uint16) (string, bool)
}
