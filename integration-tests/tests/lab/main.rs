//! Real hosts, real faults: each test starts hosts in network namespaces, breaks
//! something, and ends by counting the containers of every engine against the API.

mod backup;
mod bootstrap;
mod common;
mod engines;
mod hosts;
mod how_to;
mod leftovers;
mod network;
mod operator;
mod placing;
mod releases;
mod rollouts;
mod serving;
mod stores;
