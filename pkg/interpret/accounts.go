package interpret

// Names translates the numbers of users, groups and other accounts into names. A method
// must not wait long for a network. pkg/nss implements it for this machine.
type Names interface {
	User(uid uint32) (string, bool)
	Group(gid uint32) (string, bool)
	Protocol(n uint16) (string, bool)
}
