//! The structs of pactio/plugin.h for Zig. The header has the rules of each function.

pub const magic: u64 = 0x01436f6974636170;

/// See `pactio_answer`.
pub const Answer = i64;
pub const kept: Answer = -9223372036854775808;
pub const end: Answer = -7;
pub const unsupported: Answer = -6;

pub const Request = extern struct { size: u32, reserved: u32, position: u64, data: [*]u8, len: usize, id: u64 };
pub const Info = extern struct { size: u32, flags: u32, device_size: u64 };
pub const Limits = extern struct { size: u32, alignment: u32, memory_alignment: u32, in_flight: u32, largest: u64 };
pub const Polling = extern struct { size: u32, kind: u32, descriptor: i32, interest: u32 };
pub const Error = extern struct { size: u32, code: u32, text: [1016]u8 };
pub const Text = extern struct { data: [*]const u8, len: usize };
pub const Option = extern struct { name: Text, value: Text };

pub const readable: u32 = 1;
pub const writable: u32 = 2;

pub const Waker = opaque {};
pub const Lower = opaque {};

pub const Host = extern struct {
    size: u32,
    reserved: u32,
    object: ?*anyopaque,
    keep: *const fn (*const Request) callconv(.c) u64,
    complete: *const fn (u64, Answer) callconv(.c) void,
    complete_part: *const fn (u64, usize, u32, ?[*]const u8, usize) callconv(.c) void,
    is_cancelled: *const fn (u64) callconv(.c) u32,
    wake: *const fn (*const Waker) callconv(.c) void,
    log: *const fn (?*anyopaque, u32, [*]const u8, usize) callconv(.c) void,
    /// Behind the end of older hosts' tables.
    attribute: *const fn (u64, u32) callconv(.c) i64,
};

pub const urgency: u32 = 1;
pub const time_left: u32 = 2;
pub const span: u32 = 3;

const Transfer = ?*const fn (?*anyopaque, *const Request) callconv(.c) Answer;

pub const DeviceOps = extern struct {
    size: u32 = @sizeOf(DeviceOps),
    reserved: u32 = 0,
    close: *const fn (?*anyopaque) callconv(.c) void,
    info: *const fn (?*anyopaque, *Info) callconv(.c) void,
    read: Transfer = null,
    write: Transfer = null,
    read_next: Transfer = null,
    write_next: Transfer = null,
    cancel: ?*const fn (?*anyopaque, u64) callconv(.c) void = null,
    limits: ?*const fn (?*anyopaque, *Limits) callconv(.c) void = null,
    polling: ?*const fn (?*anyopaque, *Polling) callconv(.c) void = null,
    poll: ?*const fn (?*anyopaque, *const Waker) callconv(.c) u32 = null,
    supports: ?*const fn (?*anyopaque, [*]const u8, usize) callconv(.c) u32 = null,
    operate: ?*const fn (?*anyopaque, [*]const u8, usize, u64, [*]const u8, usize, *const Request) callconv(.c) Answer = null,
    open_name: ?*const fn (?*anyopaque, [*]const u8, usize, u32, *Device, *Error) callconv(.c) u32 = null,
    read_now: ?*const fn (?*anyopaque, u64, [*]u8, usize) callconv(.c) u32 = null,
};

pub const Device = extern struct { self: ?*anyopaque, ops: *const DeviceOps };

pub const Open = extern struct {
    size: u32,
    mode: u32,
    scheme: Text,
    target: Text,
    options: [*]const Option,
    option_count: usize,
    lower: ?*const Lower,
};

pub const Plugin = extern struct {
    magic: u64 = magic,
    size: u32 = @sizeOf(Plugin),
    abi_major: u16 = 1,
    abi_minor: u16 = 0,
    manifest: [*]const u8,
    manifest_len: usize,
    init: ?*const fn (*const Host) callconv(.c) u32 = null,
    open: *const fn (*const Open, *Device, *Error) callconv(.c) u32,
};

/// Gives the reason why a device is not opened; `open` returns the result.
pub fn refuse(out: *Error, code: u32, text: []const u8) u32 {
    const len = @min(text.len, out.text.len - 1);
    @memcpy(out.text[0..len], text[0..len]);
    out.text[len] = 0;
    out.code = code;
    return 1;
}
