//go:build noseal

package bolt

const keepsSeal = false
