# ROS 2 Jazzy and torch with CUDA, for a PC with an NVIDIA GPU. How to build and run: docs/docker.md.
#
# No CUDA image below: torch's wheels bring CUDA along, and the driver is the host's. It has to be new enough for the CUDA
# of the wheel (torch 2.13.0: CUDA 13, driver 580); for an older driver choose another build:
#   --build-arg TORCH="torch==2.13.0 --index-url <wheels of your CUDA>"
FROM ros:jazzy-ros-base
ARG TORCH="torch==2.13.0"
ARG USER_ID=1000

SHELL ["/bin/bash", "-c"]
ENV DEBIAN_FRONTEND=noninteractive
RUN apt-get update && apt-get install -y --no-install-recommends python3-venv ros-jazzy-rmw-cyclonedds-cpp \
    && rm -rf /var/lib/apt/lists/*

# torch before the sources, so that a change of them does not download it again. The venv sees ROS's Python packages.
WORKDIR /ws
RUN python3 -m venv --system-site-packages venv && touch venv/COLCON_IGNORE \
    && venv/bin/pip install --no-cache-dir $TORCH

COPY package.xml src/spec_vla_ros/
RUN apt-get update && rosdep update --rosdistro jazzy && rosdep install --from-paths src --ignore-src -y \
    && rm -rf /var/lib/apt/lists/*
COPY . src/spec_vla_ros
RUN . venv/bin/activate && pip install --no-cache-dir -e 'src/spec_vla_ros[model]' \
    && . /opt/ros/jazzy/setup.bash && colcon build --packages-select spec_vla_ros

# Not root: a node that drives an arm needs none of its rights. The number is that of the host's user, or Fast DDS's shared
# memory of the one could not be opened by the other. "ubuntu" is a user of Ubuntu's image; /cache is where models go, and a
# volume that is mounted there belongs to whom the folder did.
RUN usermod --uid "$USER_ID" ubuntu && mkdir /cache && chown ubuntu /cache && ln -s /cache ~ubuntu/.cache
USER ubuntu
# Asks NVIDIA's container toolkit for the GPU, and for those of the driver's libraries that are for computing.
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
ENTRYPOINT ["/ws/src/spec_vla_ros/docker/entrypoint.sh"]
CMD ["ros2", "launch", "spec_vla_ros", "act.launch.py", "--show-args"]
