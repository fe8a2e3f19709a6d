package mark

import "github.com/tributary-edge/tributary"

// Known is a QoS 2 message that a gateway took from a device, and that the device has not
// released.
type Known struct {
	PacketID uint16
	Ledger   tributary.LedgerID
	LSN      tributary.LSN
	Sum      uint64 // of the message: see Sum
	Here     bool   // an earlier process of this gateway took it, and perhaps no other has a copy
}

// Gone is a packet id that a device has released at another gateway, or used anew there.
// Epoch is that of the session in which this gateway took it: that one is over, and no later
// one.
type Gone struct {
	PacketID uint16
	Epoch    uint64
}
